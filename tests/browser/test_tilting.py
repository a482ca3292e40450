"""Lesson 37 in JupyterLab, in a browser: the tilt explorer by keyboard and by mouse."""

import re

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.tilting import Pull, verdict

LESSON = "37_alignment.ipynb"
DRAWN = "document.querySelector('.al-tilting').dataset.drawn"
BETA, OVERPAID = (f".al-tilting input[data-name='{name}']" for name in ("beta", "overpaid"))


@pytest.fixture
def page(lesson):
    """Overpaid 1.3, the weakest pull."""
    lesson.page.locator(".al-tilting").scroll_into_view_if_needed()
    lesson.page.locator(OVERPAID).evaluate("e => { e.value = 26; e.dispatchEvent(new Event('input')); }")
    lesson.page.locator(BETA).focus()
    lesson.page.keyboard.press("Home")
    return lesson.page


def state(page):
    """beta, overpaid, KL, what readers like, the learned reward."""
    return [float(x) for x in page.evaluate(DRAWN).split()]


def says(page):
    return page.locator(".al-tilting .al-verdict").text_content()


def test_the_keyboard_pulls_until_the_reward_is_hacked(page):
    first = state(page)
    assert first[0] == pytest.approx(8)
    page.keyboard.press("ArrowRight")
    assert state(page)[0] < 8
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"
    page.keyboard.press("End")
    last = state(page)
    assert last[2] > 4 > first[2]
    assert last[4] > first[4] + 1
    assert last[3] < 0.1 < first[3]
    assert says(page).startswith("Hacked")
    shot(page, "37_hacked")


def test_the_browser_says_what_python_says(page):
    for place in (0, 45, 70, 120):
        page.locator(BETA).evaluate(f"e => {{ e.value = {place}; e.dispatchEvent(new Event('input')); }}")
        beta, overpaid, *_ = state(page)
        assert says(page) == verdict(Pull(beta, overpaid))


def test_a_lower_price_mends_it(page):
    page.keyboard.press("End")
    page.locator(OVERPAID).focus()
    page.keyboard.press("Home")
    assert state(page)[1] == 0
    assert says(page).startswith("Here readers like it best")
    shot(page, "37_mended")


def test_a_click_on_the_chart_goes_there(page):
    canvas = page.locator(".al-tilting canvas")
    box = canvas.bounding_box()
    before = state(page)
    page.mouse.click(box["x"] + box["width"] * (566 + 300 * 2 / 6) / 880, box["y"] + box["height"] * 0.4)
    after = state(page)
    assert abs(after[2] - 2) < 0.3
    assert after[0] < before[0]
    assert re.search(r"beta 0\.\d\d", canvas.get_attribute("aria-label"))
    shot(page, "37_clicked")


def test_every_press_repaints(page):
    assert len(latencies(page, BETA, DRAWN, presses=6)) == 6


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
