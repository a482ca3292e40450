"""Lesson 10 in JupyterLab, in a browser: the forward-process explorer by keyboard and by mouse, held to what Python says."""

import random
from itertools import pairwise

import pytest
import torch
from browser.harness import latencies, shot

from aigc_lessons.data import digits
from aigc_lessons.diffusion import forward
from aigc_lessons.diffusion.schedule import NoiseSchedule
from aigc_lessons.widgets.forward import PLACES, drawn, named, verdict

LESSON = "10_forward_process.ipynb"
DRAWN = "document.querySelector('.al-forward').dataset.drawn"


@pytest.fixture(scope="module")
def data():
    return forward.facts(digits.load(stand_in=True)[0].images)


@pytest.fixture
def page(lesson):
    """Back to the linear schedule."""
    lesson.page.locator(".al-forward").scroll_into_view_if_needed()
    choose(lesson.page, "linear")
    return lesson.page


def choose(page, name):
    page.locator(".al-choices button", has_text=name).first.click()


def says(page):
    return page.locator(".al-verdict").text_content()


def state(page):
    """The schedule on show: its name, t, and the heights of the handles."""
    name, t, *heights = page.evaluate(DRAWN).rsplit(" ", 1 + len(PLACES))
    return name, int(t), [float(height) for height in heights]


def reading(schedule: NoiseSchedule, data: forward.Facts, t: int) -> str:
    """What the line under the pictures should say."""
    seen, at = forward.curves(schedule, data), torch.tensor(t)
    pixels = forward.pixel_histogram(data.levels, data.shares, schedule.alpha_bars[t].item())
    return (
        f"t = {t}: signal {seen.signal[t]:.3f}, noise {seen.noise[t]:.3f}, log-SNR {schedule.log_snr(at):.2f},"
        f" recoverable {100 * seen.recoverable[t]:.1f} %, pixels to normal {forward.distance_to_normal(pixels):.3f}"
    )


def test_every_offered_schedule_gets_pythons_verdict(page, data):
    for name, schedule in named().items():
        choose(page, name)
        assert says(page) == verdict(forward.curves(schedule, data))
        assert page.locator(".al-choices button[aria-pressed='true']").all_text_contents() == [name]
        assert page.locator(".al-reading").text_content() == reading(schedule, data, state(page)[1])
        shot(page, f"10_{name.replace(' ', '_')}")


def test_t_by_keyboard(page, data):
    slider = page.locator(".al-forward input")
    slider.focus()
    page.keyboard.press("Home")
    assert state(page)[1] == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert state(page)[1] == 3
    assert page.locator(".al-reading").text_content() == reading(named()["linear"], data, 3)
    page.keyboard.press("End")
    assert state(page)[1] == 1000
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_a_handle_by_keyboard_makes_the_schedule_ones_own(page, data):
    before = state(page)[2]
    page.locator('[data-handle="4"]').focus()
    page.keyboard.press("ArrowUp")
    name, _, heights = state(page)
    assert name == "own"
    assert heights == [h + 0.25 * (i == 4) for i, h in enumerate(before)]
    assert says(page) == verdict(forward.curves(drawn(heights), data))
    for _ in range(4):
        page.keyboard.press("PageDown")
    heights = state(page)[2]
    assert all(a > b for a, b in pairwise(heights)), "the others gave way"
    assert page.locator('[data-handle="4"]').get_attribute("aria-valuetext") == f"{heights[4]:.2f} at t = 500"


def test_a_handle_by_mouse(page, data):
    choose(page, "cosine")
    box = page.locator('[data-handle="3"]').bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3, y + 60, steps=4)
    page.mouse.up()
    name, t, heights = state(page)
    assert name == "own"
    assert heights[3] < -4
    assert says(page) == verdict(forward.curves(drawn(heights), data))
    assert page.locator(".al-reading").text_content() == reading(drawn(heights), data, t)
    shot(page, "10_own")


def test_a_click_into_a_plot_moves_t(page):
    board = page.locator(".al-forward canvas").bounding_box()
    page.mouse.click(board["x"] + board["width"] * 235 / 880, board["y"] + board["height"] * 430 / 506)
    assert abs(state(page)[1] - 500) <= 3


# many schedules at once: one trip into the page for all of them, through the keys that a hand would press
PRESS = """(moves) => moves.map(([handle, keys]) => {
  const circle = document.querySelector(`[data-handle="${handle}"]`);
  for (const key of keys) circle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  return [document.querySelector('.al-forward').dataset.drawn, document.querySelector('.al-verdict').textContent];
})"""


def test_the_browser_says_what_python_says(page, data):
    """Forty schedules, pushed about at random."""
    draw = random.Random(3)
    moves = [
        [draw.randrange(len(PLACES)), draw.choices(["ArrowUp", "ArrowDown", "PageUp", "PageDown"], k=3)] for _ in range(40)
    ]
    heads = set()
    for shown, words in page.evaluate(PRESS, moves):
        heights = [float(height) for height in shown.split()[2:]]
        assert words == verdict(forward.curves(drawn(heights), data))
        heads.add(words.split(":")[0])
    assert len(heads) >= 2


def test_the_pictures_drown(page):
    """The corner of the digit is paper at t = 1 and noise at t = 1000."""
    spread = """() => { const c = document.querySelector('.al-forward canvas'), s = c.width / 880;
      const d = c.getContext('2d').getImageData(480 * s, 226 * s, 160 * s, 20 * s).data, v = [];
      for (let i = 0; i < d.length; i += 4) v.push(d[i]);
      const m = v.reduce((a, b) => a + b) / v.length;
      return Math.sqrt(v.reduce((a, b) => a + (b - m) ** 2, 0) / v.length); }"""
    page.locator(".al-forward input").focus()
    page.keyboard.press("Home")
    clean = page.evaluate(spread)
    page.keyboard.press("End")
    assert page.evaluate(spread) > clean + 50


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    page.locator('[data-handle="2"]').focus()
    page.keyboard.press("ArrowDown")
    before = page.evaluate(DRAWN)
    page.wait_for_timeout(800)
    assert page.evaluate(DRAWN) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    page.locator(".al-forward input").focus()
    page.keyboard.press("Home")
    assert len(latencies(page, ".al-forward input", DRAWN, presses=10)) == 10
    assert len(latencies(page, '[data-handle="4"]', DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
