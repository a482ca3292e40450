"""Lesson 17 in JupyterLab, in a browser: the flow explorer by keyboard and by mouse."""

import re

import pytest
from browser.harness import latencies, shot

LESSON = "17_flow_matching.ipynb"
DRAWN = "document.querySelector('.al-flows').dataset.drawn"
PICTURE = "document.querySelector('.al-flows canvas').toDataURL()"
STEPS, WAY = ".al-flows input[aria-label='Euler steps']", ".al-flows input[aria-label='way from noise to data']"
NAMES = ["independent pairs", "shortest pairs", "reflow"]


@pytest.fixture
def page(lesson):
    """Back to the first flow, one step, all the way."""
    lesson.page.locator(".al-flows").scroll_into_view_if_needed()
    choose(lesson.page, NAMES[0])
    for target, key in ((WAY, "End"), (STEPS, "Home")):
        lesson.page.locator(target).focus()
        lesson.page.keyboard.press(key)
    return lesson.page


def choose(page, name):
    page.locator(".al-flows .al-choices button", has_text=name).click()


def state(page):
    """The flow, the number of steps, the percentage of the way, the point."""
    name, *numbers = re.fullmatch(r"(.+) (\d+) (\d+) (\d+)", page.evaluate(DRAWN)).groups()
    return name, *map(int, numbers)


def test_steps_and_way_by_keyboard(page):
    assert state(page)[:3] == (NAMES[0], 1, 100)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert state(page)[1] == 3
    page.keyboard.press("End")
    assert state(page)[1] == 32
    assert "32 steps:" in page.locator(".al-flows .al-verdict").text_content()
    page.locator(WAY).focus()
    before = page.evaluate(PICTURE)
    page.keyboard.press("ArrowLeft")
    assert state(page)[2] == 99
    assert page.evaluate(PICTURE) != before
    page.keyboard.press("Home")
    assert page.locator(".al-flows output").all_text_contents() == ["32", "t = 1.00"]
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_every_flow_can_be_chosen_and_has_its_verdict(page):
    said, pictures = [], set()
    for name in NAMES:
        choose(page, name)
        assert state(page)[:2] == (name, 1)
        assert page.locator(".al-flows button[aria-pressed='true']").all_text_contents() == [name]
        said.append(page.locator(".al-flows .al-verdict").text_content())
        pictures.add(page.evaluate(PICTURE))
        shot(page, f"17_{name.replace(' ', '_')}")
    assert len(pictures) == len(set(said)) == 3
    assert all(re.match(r"(Broken|Bent|Holds).+1 step: \d+ of \d+ off the data", words) for words in said)


def test_paths_can_be_hidden(page):
    before = page.evaluate(PICTURE)
    page.locator(".al-flows input[type=checkbox]").uncheck()
    assert page.evaluate(PICTURE) != before
    page.locator(".al-flows input[type=checkbox]").check()
    assert page.evaluate(PICTURE) == before


def test_a_click_follows_another_point_and_a_click_on_the_chart_sets_the_steps(page):
    page.locator(".al-flows canvas").scroll_into_view_if_needed()
    box = page.locator(".al-flows canvas").bounding_box()
    x, y = (lambda u: box["x"] + box["width"] * u / 880), (lambda v: box["y"] + box["height"] * v / 456)
    before = state(page)[3]
    page.locator(".al-flows button", has_text="follow another").click()
    assert state(page)[3] == before + 1
    page.mouse.click(x(508 + 3 / 5 * 360), y(200))  # a third fifth of the way to 32, in doublings: 8
    assert state(page)[1] == 8
    page.locator(WAY).focus()
    page.keyboard.press("Home")
    page.mouse.click(x(170), y(238))
    left = state(page)[3]
    page.mouse.click(x(262), y(238))
    assert state(page)[3] != left
    page.locator(WAY).focus()
    page.keyboard.press("End")
    shot(page, "17_followed")


def test_play_runs_to_the_data_and_can_be_paused(page):
    button = page.locator(".al-flows button", has_text="play")
    button.click()
    page.wait_for_function(f"(p => p > 5 && p < 90)(+{DRAWN}.split(' ').at(-2))")
    page.locator(".al-flows button", has_text="pause").click()
    stopped = state(page)[2]
    assert 0 < stopped < 100
    page.wait_for_timeout(300)
    assert state(page)[2] == stopped
    button.click()
    page.wait_for_function(f"+{DRAWN}.split(' ').at(-2) === 100")
    assert button.text_content() == "▶ play"


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, STEPS, DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
