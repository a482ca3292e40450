"""Lessons as a learner meets them: in JupyterLab, in a browser, by keyboard and mouse."""

import pytest
from browser.harness import latencies, opened, shot

from aigc_lessons.lessons import course_map


@pytest.fixture(scope="module")
def start(browser, lab):
    with opened(browser, lab, "00_start_here.ipynb") as lesson:
        yield lesson


@pytest.fixture(scope="module")
def ddpm(browser, lab):
    with opened(browser, lab, "13_ddpm_on_images.ipynb") as lesson:
        yield lesson


@pytest.fixture(scope="module")
def pretraining(browser, lab):
    with opened(browser, lab, "33_pretraining.ipynb") as lesson:
        yield lesson


FRAME = "document.querySelector('.al-player canvas').dataset.frame"


def frame(page):
    return int(page.evaluate(FRAME))


def pixels(page, selector):
    return page.evaluate(f"document.querySelector('{selector}').toDataURL()")


def test_player_by_keyboard(start):
    page = start.page
    page.locator(".al-player input").scroll_into_view_if_needed()
    page.locator(".al-player input").focus()
    page.keyboard.press("Home")
    assert frame(page) == 0
    noise = pixels(page, ".al-player canvas")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert frame(page) == 3
    assert pixels(page, ".al-player canvas") != noise
    assert "t = 875" in page.locator(".al-player output").text_content()
    page.keyboard.press("End")
    assert frame(page) == 24
    shot(page, "00_player_end")
    assert page.locator(".al-player input").get_attribute("aria-valuetext") == "noise level t = 0"


def test_player_by_mouse(start):
    page = start.page
    slider = page.locator(".al-player input")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    assert 8 <= frame(page) <= 16
    shot(page, "00_player_middle")


def test_player_plays_and_pauses(start):
    page = start.page
    page.locator(".al-player input").focus()
    page.keyboard.press("Home")
    button = page.locator(".al-player button")
    button.click()
    page.wait_for_function(f"+{FRAME} > 4")
    button.click()
    stopped = frame(page)
    page.wait_for_timeout(500)
    assert frame(page) == stopped


def test_nobody_is_asked_about_news(start):
    assert start.page.locator(".Toastify__toast").count() == 0


def test_course_map_tells_about_a_lesson(start):
    page = start.page
    page.locator('.al-map button[data-lesson="13"]').click()
    says = page.locator(".al-map .al-says")
    assert "In about a minute of training" in says.text_content()
    assert page.locator('.al-map button[data-lesson="00"].al-first').count() == 1
    assert page.locator(".al-map a").get_attribute("href").endswith("/lab/tree/13_ddpm_on_images.ipynb")
    tiles = [tile for part in course_map() for tile in part["lessons"]]
    after = tiles[1 + next(k for k, tile in enumerate(tiles) if tile["number"] == "13")]
    page.keyboard.press("ArrowRight")
    assert after["title"] in says.text_content()
    shot(page, "00_map")
    planned = next(tile for tile in tiles if not tile["ready"])
    page.locator(f'.al-map button[data-lesson="{planned["number"]}"]').click()
    assert "Planned; not written yet" in says.text_content()


def test_unsolved_exercise_and_solution_render(start):
    page = start.page
    verdicts = page.locator(".jp-OutputArea pre")
    verdicts.filter(has_text="Not solved yet").scroll_into_view_if_needed()
    assert verdicts.filter(has_text="Right on seven inputs").count() == 1
    shot(page, "00_exercise")


def test_training_is_shown_live(ddpm):
    page = ddpm.page
    picture = page.locator("img.live-picture")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("e => e.naturalWidth") > 600
    assert "of 20" in page.locator(".live-words").text_content()
    shot(page, "13_training")


def test_walk_can_be_scrubbed(ddpm):
    page = ddpm.page
    page.locator(".al-player input").scroll_into_view_if_needed()
    page.locator(".al-player input").focus()
    page.keyboard.press("End")
    assert frame(page) == 50
    shot(page, "13_player")


def test_guidance_changes_the_digits(ddpm):
    page = ddpm.page
    handle, source = ".guidance-slider .noUi-handle", "document.querySelector('img.guidance-picture').src"
    page.locator(handle).scroll_into_view_if_needed()
    page.locator(handle).focus()
    page.keyboard.press("Home")
    page.wait_for_function("+document.querySelector('.guidance-slider .widget-readout').textContent === 0")
    page.wait_for_timeout(1000)
    before = page.evaluate(source)
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{source} !== {before!r}")
    assert page.locator(".guidance-slider .widget-readout").text_content() == "0.25"
    assert "of 10 as asked" in page.locator(".guidance-words").text_content()
    box = page.locator(handle).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_function("+document.querySelector('.guidance-slider .widget-readout').textContent > 3")
    shot(page, "13_guidance")


def test_the_text_is_written_live(pretraining):
    page = pretraining.page
    picture = page.locator("img.live-picture")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("e => e.naturalWidth") > 600
    assert "of 20" in page.locator(".live-words").text_content()
    shot(page, "33_training")


def test_the_learner_s_own_network_is_explored(pretraining):
    """A control moves the bars of the network trained above."""
    page = pretraining.page
    slider, bars = '.al-next [data-control="temperature"]', ".al-next .al-track .al-after"
    page.locator(slider).scroll_into_view_if_needed()
    page.locator(slider).focus()
    before = page.locator(bars).first.evaluate("e => e.style.width")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.querySelector({bars!r}).style.width !== {before!r}")
    shot(page, "33_next_token")


def test_every_press_repaints(start, ddpm):
    """Ten presses each in the browser and through the kernel; how fast is the benchmark's business."""
    assert len(latencies(start.page, ".al-player input", FRAME, presses=10)) == 10
    source = "document.querySelector('img.guidance-picture').src"
    assert len(latencies(ddpm.page, ".guidance-slider .noUi-handle", source, presses=10)) == 10


@pytest.mark.parametrize("name", ["start", "ddpm", "pretraining"])
def test_no_errors_and_nothing_from_outside(name, request):
    lesson = request.getfixturevalue(name)
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
