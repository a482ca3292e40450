"""Lesson 12 in JupyterLab, in a browser: the path explorer by keyboard and by mouse."""

import re

import pytest
from browser.harness import latencies, shot

LESSON = "12_ddpm_from_scratch.ipynb"
DRAWN = "document.querySelector('.al-paths').dataset.drawn"
PIXELS = """() => { const c = document.querySelector('.al-paths canvas'), s = c.width / 880;
  const d = c.getContext('2d').getImageData(4 * s, 24 * s, 424 * s, 424 * s).data; let blue = 0;
  for (let i = 0; i < d.length; i += 4) if (d[i] < 90 && d[i + 2] > 140) blue++;
  return blue / s / s; }"""


@pytest.fixture
def page(lesson):
    """Back to the first sampler, at the beginning."""
    lesson.page.locator(".al-paths").scroll_into_view_if_needed()
    choose(lesson.page, "right")
    lesson.page.locator(".al-paths input[type=range]").focus()
    lesson.page.keyboard.press("Home")
    return lesson.page


def choose(page, name):
    page.locator(".al-paths .al-choices button", has_text=name).click()


def state(page):
    """The sampler, the time, the point."""
    name, t, point = page.evaluate(DRAWN).rsplit(" ", 2)
    return name, int(t), int(point)


def test_time_by_keyboard(page):
    assert state(page) == ("right", 200, state(page)[2])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert state(page)[1] == 198
    page.keyboard.press("End")
    assert state(page)[1] == 0
    assert re.match(r"t = 0: surprise −?\d+\.\d\d nats", page.locator(".al-paths .al-reading").text_content())
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_every_sampler_can_be_chosen_and_has_its_verdict(page):
    said = set()
    for name in ("right", "no noise", "too much noise", "wrong time", "ten steps"):
        choose(page, name)
        page.locator(".al-paths input[type=range]").focus()
        page.keyboard.press("End")
        assert state(page)[:2] == (name, 0)
        assert page.locator(".al-paths button[aria-pressed='true']").all_text_contents() == [name]
        said.add(page.locator(".al-paths .al-verdict").text_content())
        shot(page, f"12_{name.replace(' ', '_')}")
    assert len(said) >= 2
    assert all("Off the data" in words for words in said)


def test_points_are_painted_and_move(page):
    """The pixels of 400 blue points; a different picture at every time."""
    pictures = []
    for keys in (["Home"], ["End"], ["PageDown"]):
        for key in keys:
            page.keyboard.press(key)
        assert page.evaluate(PIXELS) > 300
        pictures.append(page.evaluate("document.querySelector('.al-paths canvas').toDataURL()"))
    assert len(set(pictures)) == 3


def test_arrows_can_be_hidden(page):
    picture = "document.querySelector('.al-paths canvas').toDataURL()"
    before = page.evaluate(picture)
    page.locator(".al-paths input[type=checkbox]").uncheck()
    assert page.evaluate(picture) != before
    page.locator(".al-paths input[type=checkbox]").check()
    assert page.evaluate(picture) == before


def test_a_click_follows_another_point_and_a_click_on_the_chart_moves_time(page):
    box = page.locator(".al-paths canvas").bounding_box()
    x, y = (lambda u: box["x"] + box["width"] * u / 880), (lambda v: box["y"] + box["height"] * v / 452)
    before = state(page)[2]
    page.locator(".al-paths button", has_text="follow another").click()
    assert state(page)[2] == before + 1
    page.mouse.click(x(60), y(230))
    left = state(page)[2]
    page.mouse.click(x(370), y(230))
    assert state(page)[2] != left
    page.mouse.click(x(496 + 372 / 2), y(200))
    assert abs(state(page)[1] - 100) <= 2
    shot(page, "12_followed")


def test_play_runs_to_the_data_and_can_be_paused(page):
    button = page.locator(".al-paths button", has_text="play")
    button.click()
    page.wait_for_function(f"+{DRAWN}.split(' ').at(-2) < 150")
    page.locator(".al-paths button", has_text="pause").click()
    stopped = state(page)[1]
    assert 0 < stopped < 150
    page.wait_for_timeout(300)
    assert state(page)[1] == stopped
    button.click()
    page.wait_for_function(f"+{DRAWN}.split(' ').at(-2) === 0")
    assert button.text_content() == "▶ play"


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, ".al-paths input[type=range]", DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
