"""Lesson 15 in JupyterLab, in a browser: the solver frontier by keyboard and by mouse, held to what Python says."""

import pytest
from browser.harness import latencies, shot

from aigc_lessons.experiments import results
from aigc_lessons.studio.frontier import BUDGETS, METHODS, SCALES
from aigc_lessons.studio.frontier_series import best_grid
from aigc_lessons.widgets.frontier import NAMES, ends, points, verdict

LESSON = "15_fast_samplers.ipynb"
DRAWN = "document.querySelector('.al-frontier').dataset.drawn"
PIXELS = """([x, y, w, h]) => { const c = document.querySelector('.al-frontier canvas'), s = c.width / 880;
  return Array.from(c.getContext('2d').getImageData(x * s, y * s, w * s, h * s).data); }"""


@pytest.fixture(scope="module")
def measured():
    rows = results("samplers")["rows"]
    return points(rows, {method: best_grid(rows, method) for method in METHODS})


@pytest.fixture
def page(lesson):
    """Back to 2M at eight evaluations, without guidance."""
    lesson.page.locator(".al-frontier").scroll_into_view_if_needed()
    choose(lesson.page, "sampler", "2M")
    choose(lesson.page, "guidance", "1")
    choose(lesson.page, "shown over evaluations", "Fréchet ratio")
    price(lesson.page, 8)
    return lesson.page


def choose(page, group, name):
    page.get_by_role("group", name=group, exact=True).get_by_role("button", name=name, exact=True).click()


def price(page, wanted):
    page.locator(".al-frontier input").focus()
    page.keyboard.press("Home")
    for _ in range(BUDGETS.index(wanted)):
        page.keyboard.press("ArrowRight")


def state(page):
    method, at, scale, measure = page.evaluate(DRAWN).split()
    return method, int(at), float(scale), measure


def says(page):
    return page.locator(".al-frontier .al-verdict").text_content()


def test_it_opens_at_the_lessons_answer(page, measured):
    assert state(page) == ("dpmpp_2m", 8, 1.0, "ratio")
    assert says(page).startswith("The digits of the full walk")
    shot(page, "15_opens")


def test_every_setting_says_what_python_says(page, measured):
    at_end = ends(measured)
    for scale in SCALES:
        choose(page, "guidance", f"{scale:g}")
        for method in METHODS:
            choose(page, "sampler", NAMES[method])
            for wanted in (2, 8, 30):
                price(page, wanted)
                assert state(page) == (method, wanted, scale, "ratio")
                assert says(page) == verdict(measured[method, wanted, scale], at_end[scale], at_end[1.0])


def test_breaking_it(page):
    choose(page, "sampler", "Heun")
    price(page, 4)
    assert says(page).startswith("Broken: too few evaluations for Heun")
    assert page.locator(".al-frontier .al-no").count() == 1
    shot(page, "15_broken")
    choose(page, "sampler", "2M")
    choose(page, "guidance", "4")
    price(page, 30)
    assert says(page).startswith("Guidance 4 is too strong")
    shot(page, "15_guided")


def test_the_price_by_keyboard(page):
    slider = page.locator(".al-frontier input")
    slider.focus()
    page.keyboard.press("End")
    assert state(page)[1] == 30
    page.keyboard.press("ArrowLeft")
    assert state(page)[1] == 16
    assert slider.get_attribute("aria-valuetext") == "16 evaluations, 16 steps"
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_a_click_takes_the_nearest_point(page):
    """Far to the right and at the top there is only what costs most."""
    board = page.locator(".al-frontier canvas").bounding_box()
    page.mouse.click(board["x"] + board["width"] * 411 / 880, board["y"] + board["height"] * 330 / 404)
    assert state(page)[1] == 30
    page.mouse.click(board["x"] + board["width"] * 700 / 880, board["y"] + board["height"] * 100 / 404)
    assert state(page)[1] == 30, "the digits are no plot"


def test_all_three_measures_are_drawn(page):
    seen = set()
    for name in ("Fréchet ratio", "digits read right", "distance to the full walk"):
        choose(page, "shown over evaluations", name)
        seen.add(tuple(page.evaluate(PIXELS, [46, 40, 378, 300])))
        shot(page, f"15_{state(page)[3]}")
    assert len(seen) == 3


def test_the_digits_change_with_the_scale_and_the_end_with_it(page):
    """The lower shelf belongs to the guidance alone."""
    lower = [476, 220, 396, 155]
    end = page.evaluate(PIXELS, lower)
    price(page, 2)
    assert page.evaluate(PIXELS, lower) == end
    choose(page, "guidance", "4")
    assert page.evaluate(PIXELS, lower) != end


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    choose(page, "sampler", "DDIM")
    before = page.evaluate(DRAWN)
    page.wait_for_timeout(800)
    assert page.evaluate(DRAWN) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, ".al-frontier input", DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
