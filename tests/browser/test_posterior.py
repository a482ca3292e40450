"""Lesson 11 in JupyterLab, in a browser: the posterior explorer by keyboard and by mouse, held to what Python says."""

import random

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.posterior import Step, roads, step_back, verdict

LESSON = "11_reverse_process_and_elbo.ipynb"
DRAWN = "document.querySelector('.al-posterior').dataset.drawn"


@pytest.fixture
def page(lesson):
    """Back to the road of ten steps, its end, x_0 = -1, eps = 0.5, guess -0.5, wherever other tests left them."""
    lesson.page.locator(".al-posterior").scroll_into_view_if_needed()
    choose(lesson.page, "linear")
    lesson.page.locator(".al-posterior input").focus()
    lesson.page.keyboard.press("End")
    choose(lesson.page, "10 steps")
    choose(lesson.page, "posterior")
    for handle, up in (("x0", 4), ("eps", 9), ("guess", 5)):
        lesson.page.locator(f'.al-posterior [data-handle="{handle}"]').focus()
        for key in ["PageDown"] * 16 + ["PageUp"] * up:  # from the lower end of the rail
            lesson.page.keyboard.press(key)
    assert state(lesson.page.evaluate(DRAWN))[2:5] == (-1.0, 0.5, -0.5)
    return lesson.page


def choose(page, name):
    page.locator(".al-posterior button").get_by_text(name, exact=True).click()


def state(shown):
    road, t, x0, eps, guess, variance = shown.split()
    return road.replace("_", " "), int(t), float(x0), float(eps), float(guess), variance


def python(shown) -> tuple[Step, str, str]:
    """The step on show, the verdict on it, and what the line under the pictures should say."""
    road, t, x0, eps, guess, variance = state(shown)
    schedule = roads()[road]
    step = step_back(schedule, t, x0, eps, guess, variance)
    one = lambda n: f"{n.mean + 0.0:.4f} ± {n.sd:.4f}"  # noqa: E731
    reading = (
        f"t = {t} of {schedule.T}: x_t {step.x_t:.4f}, prior {one(step.prior)}, likelihood {one(step.likelihood)},"
        f" posterior {one(step.posterior)}, yours {one(step.reverse)}"
    )
    return step, verdict(step, t, x0, eps, guess), reading


def agree(page):
    _, words, reading = python(page.evaluate(DRAWN))
    assert page.locator(".al-posterior .al-verdict").text_content() == words
    assert page.locator(".al-posterior .al-reading").text_content() == reading


def test_every_road_and_width_is_pythons(page):
    for variance in ("beta", "posterior"):
        choose(page, variance)
        for road in roads():
            choose(page, road)
            assert state(page.evaluate(DRAWN))[0::5] == (road, variance)
            assert state(page.evaluate(DRAWN))[1] == roads()[road].T, "the same place: the end"
            pressed = page.locator(".al-posterior button[aria-pressed='true']").all_text_contents()
            assert pressed == [road, variance]
            agree(page)


def test_t_by_keyboard_down_to_the_last_step(page):
    page.locator(".al-posterior input").focus()
    page.keyboard.press("Home")
    assert state(page.evaluate(DRAWN))[1] == 1
    assert page.locator(".al-posterior .al-verdict").text_content().startswith("The last step")
    agree(page)
    shot(page, "11_last_step")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert state(page.evaluate(DRAWN))[1] == 5
    agree(page)
    shot(page, "11_middle")
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_the_posterior_listens_to_x0_early_and_hardly_late(page):
    def moved(t):
        page.locator(".al-posterior input").focus()
        page.keyboard.press("Home")
        for _ in range(t - 1):
            page.keyboard.press("ArrowRight")
        before = python(page.evaluate(DRAWN))[0].posterior.mean
        page.locator('[data-handle="guess"]').focus()
        old = python(page.evaluate(DRAWN))[0].reverse.mean
        page.keyboard.press("PageUp")
        now = python(page.evaluate(DRAWN))[0]
        page.keyboard.press("PageDown")
        assert now.posterior.mean == before, "a guess moves only the step back"
        agree(page)
        return now.reverse.mean - old

    assert moved(3) > 0.4
    assert 0 < moved(10) < 0.02


def test_handles_by_keyboard(page):
    for key in ("x0", "eps", "guess"):
        before = state(page.evaluate(DRAWN))
        handle = page.locator(f'.al-posterior [data-handle="{key}"]')
        handle.focus()
        page.keyboard.press("ArrowRight")
        after = state(page.evaluate(DRAWN))
        place = {"x0": 2, "eps": 3, "guess": 4}[key]
        assert after[place] == pytest.approx(before[place] + 0.05)
        assert [v for i, v in enumerate(after) if i != place] == [v for i, v in enumerate(before) if i != place]
        assert handle.get_attribute("aria-valuenow") == f"{after[place]:g}"
        agree(page)


def test_a_handle_by_mouse(page):
    page.locator(".al-posterior input").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    for key, by in (("guess", 60), ("x0", -20), ("eps", 15)):
        before = state(page.evaluate(DRAWN))
        box = page.locator(f'.al-posterior [data-handle="{key}"]').bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + by, y + 5, steps=4)
        page.mouse.up()
        place = {"x0": 2, "eps": 3, "guess": 4}[key]
        assert (state(page.evaluate(DRAWN))[place] - before[place]) * by > 0
        agree(page)
    assert "Expensive" in page.locator(".al-posterior .al-verdict").text_content()
    shot(page, "11_expensive")
    choose(page, "guess right")
    assert "costs nothing" in page.locator(".al-posterior .al-verdict").text_content()
    choose(page, "beta")
    assert "still costs" in page.locator(".al-posterior .al-verdict").text_content()
    agree(page)
    shot(page, "11_beta")


def test_a_click_into_the_lower_plot_moves_t(page):
    choose(page, "1000 steps")
    board = page.locator(".al-posterior canvas").bounding_box()
    page.mouse.click(board["x"] + board["width"] * 466 / 880, board["y"] + board["height"] * 410 / 500)
    assert abs(state(page.evaluate(DRAWN))[1] - 500) <= 4
    agree(page)
    shot(page, "11_thousand")


# many steps at once: one trip into the page for all of them, through the keys that a hand would press
PRESS = """(moves) => moves.map(([road, variance, keys]) => {
  const root = document.querySelector('.al-posterior');
  for (const name of [road, variance]) [...root.querySelectorAll('button')].find((b) => b.textContent === name).click();
  for (const [handle, key] of keys)
    root.querySelector(`[data-handle="${handle}"]`).dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const slider = root.querySelector('input');
  slider.value = 1 + Math.floor(Math.random() * slider.max);
  slider.dispatchEvent(new Event('input'));
  return [root.dataset.drawn, root.querySelector('.al-verdict').textContent, root.querySelector('.al-reading').textContent];
})"""


def test_the_browser_says_what_python_says(page):
    """Sixty steps, pushed about at random."""
    draw = random.Random(5)
    keys = ["ArrowRight", "ArrowLeft", "PageUp", "PageDown"]
    moves = [
        [draw.choice(list(roads())), draw.choice(["posterior", "beta"]),
         [[draw.choice(["x0", "eps", "guess"]), draw.choice(keys)] for _ in range(3)]]
        for _ in range(60)
    ]  # fmt: skip
    heads = set()
    for shown, words, reading in page.evaluate(PRESS, moves):
        _, expected, line = python(shown)
        assert words == expected, shown
        assert reading.replace("-0.0000", "0.0000") == line.replace("-0.0000", "0.0000"), shown
        heads.add(words.split(" ")[0])
    assert len(heads) >= 3


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    page.locator('.al-posterior [data-handle="x0"]').focus()
    page.keyboard.press("ArrowLeft")
    before = page.evaluate(DRAWN)
    page.wait_for_timeout(800)
    assert page.evaluate(DRAWN) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    page.locator(".al-posterior input").focus()
    page.keyboard.press("Home")
    assert len(latencies(page, ".al-posterior input", DRAWN, presses=10)) == 10
    assert len(latencies(page, '.al-posterior [data-handle="guess"]', DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
