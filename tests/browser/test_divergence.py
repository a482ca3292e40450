"""Lesson 03 in JupyterLab, in a browser: the KL explorer by keyboard and by mouse, held to what Python says."""

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.divergence import Placed, kl, verdict

LESSON = "03_generative_models.ipynb"
DRAWN = "document.querySelector('.al-kl').dataset.drawn"
PICTURE = "document.querySelector('.al-kl canvas').toDataURL()"


@pytest.fixture
def page(lesson):
    """Back to how it began: forward, in the middle, width 1, humps 3.2 apart."""
    page = lesson.page
    page.locator(".al-kl").scroll_into_view_if_needed()
    press(page, "forward")
    for control, value in (("apart", 3.2), ("mean", 0), ("width", 0)):
        choose(page, control, value)
    return page


def press(page, name):
    page.locator(".al-kl button", has_text=name).first.click()


def choose(page, control, value):
    page.locator(f'.al-kl [data-control="{control}"]').evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def state(page):
    mean, width, apart, direction, forward, reverse, rolling = page.evaluate(DRAWN).split()
    return Placed(float(mean), float(width), float(apart), direction), float(forward), float(reverse), rolling == "true"


def agrees(page):
    """Both numbers and the words are Python's."""
    placed, forward, reverse, _ = state(page)
    assert forward == pytest.approx(kl(Placed(placed.mean, placed.width, placed.apart, "forward")), abs=1e-9)
    assert reverse == pytest.approx(kl(Placed(placed.mean, placed.width, placed.apart, "reverse")), abs=1e-9)
    assert page.locator(".al-kl .al-verdict").text_content() == verdict(placed)
    return placed


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("put", ["between", "left hump", "right hump", "over both"])
def test_the_browser_says_what_python_says(page, direction, put):
    press(page, direction)
    press(page, put)
    assert agrees(page).direction == direction
    shot(page, f"03_{direction}_{put.replace(' ', '_')}")


def test_by_keyboard(page):
    page.locator('.al-kl [data-control="mean"]').focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.locator('.al-kl [data-control="width"]').focus()
    page.keyboard.press("ArrowLeft")
    page.locator('.al-kl [data-control="apart"]').focus()
    page.keyboard.press("ArrowLeft")
    placed = agrees(page)
    assert (round(placed.mean, 2), round(placed.apart, 1)) == (0.2, 2.8)
    assert 0.9 < placed.width < 1
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_by_mouse_it_is_dragged(page):
    before = page.evaluate(PICTURE)
    box = page.locator(".al-kl canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (0.5 - 1.6 / 12 * 864 / 880), box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.up()
    assert agrees(page).mean == pytest.approx(-1.6, abs=0.05)
    assert page.evaluate(PICTURE) != before


def test_rolling_downhill_ends_where_python_says(page):
    press(page, "roll downhill")
    page.wait_for_function(f"{DRAWN}.endsWith('false')")
    assert agrees(page).mean == pytest.approx(-0.32, abs=0.02)
    assert page.locator(".al-kl .al-verdict").text_content().startswith("Found")
    assert "al-yes" in page.locator(".al-kl .al-verdict").get_attribute("class")
    shot(page, "03_found")
    press(page, "reverse")
    press(page, "right hump")
    choose(page, "mean", 1.2)
    press(page, "roll downhill")
    page.wait_for_function(f"{DRAWN}.endsWith('false')")
    assert agrees(page).mean == pytest.approx(1.6, abs=0.02)
    assert page.locator(".al-kl .al-verdict").text_content().startswith("A trap")
    shot(page, "03_trap")


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    choose(page, "mean", 0.75)
    before = page.evaluate(DRAWN)
    page.wait_for_timeout(900)
    assert page.evaluate(DRAWN) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '.al-kl [data-control="mean"]', DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
