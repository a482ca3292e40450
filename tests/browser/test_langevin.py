"""Lesson 14 in JupyterLab, in a browser: the Langevin explorer by keyboard and by mouse, held to what Python says."""

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.langevin import SIZES, Setting, verdict, walk

LESSON = "14_score_sde_ode.ipynb"
DRAWN = "document.querySelector('.al-langevin').dataset.drawn"


@pytest.fixture
def page(lesson):
    """Back to how it began: no annealing, steps of 0.1, log-SNR 5, from noise."""
    page = lesson.page
    page.locator(".al-langevin").scroll_into_view_if_needed()
    if state(page)["playing"]:
        press(page, "pause")
    choose(page, "size", SIZES.index(0.1))
    choose(page, "noise", 5)
    press(page, "noise")
    if state(page)["anneal"]:
        press(page, "anneal")
    press(page, "restart")
    return page


def press(page, name, times=1):
    button = page.locator(".al-langevin button", has_text=name).first
    for _ in range(times):
        button.click()


def choose(page, control, value):
    slider = f'.al-langevin [data-control="{control}"]'
    page.locator(slider).evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def state(page):
    steps, size, log_snr, anneal, start, share, playing = page.evaluate(DRAWN).split()
    setting = Setting(float(size), float(log_snr), anneal == "true", start)
    return {"steps": int(steps), "setting": setting, "anneal": setting.anneal, "share": float(share),
            "playing": playing == "true"}  # fmt: skip


def agrees(page, settings):
    """Places, shares and words are Python's."""
    walked = walk(settings)
    x, y = walked.x.T
    moments = [float(m) for m in page.evaluate("document.querySelector('.al-langevin').dataset.moments").split()]
    assert moments == pytest.approx([x.mean(), y.mean(), (x * y).mean()], abs=1e-7, rel=1e-6)
    assert state(page)["share"] == walked.shares[-1]
    assert page.locator(".al-verdict").text_content() == verdict(walked, state(page)["setting"])
    return walked


@pytest.mark.parametrize(
    "setting", [Setting(), Setting(0.5, 1.0), Setting(start="left"), Setting(0.02, 6.0, start="middle")]
)
def test_the_browser_walks_where_python_walks(page, setting):
    choose(page, "size", SIZES.index(setting.size))
    choose(page, "noise", setting.log_snr)
    press(page, setting.start)
    agrees(page, []) if setting.start == "noise" else None
    press(page, "10 steps", 4)
    assert state(page) == state(page) | {"steps": 40, "setting": setting}
    agrees(page, [setting] * 40)


def test_annealing_gets_the_weights_right(page):
    press(page, "anneal")
    choose(page, "size", SIZES.index(0.2))
    setting = Setting(0.2, 5.0, True)
    press(page, "10 steps", 12)
    agrees(page, [setting] * 120)
    shot(page, "14_annealing")
    press(page, "10 steps", 18)
    agrees(page, [setting] * 300)
    assert page.locator(".al-verdict").text_content().startswith("Right")
    assert "al-no" not in page.locator(".al-verdict").get_attribute("class")
    shot(page, "14_annealed")


def test_sliders_act_while_it_walks(page):
    press(page, "10 steps")
    page.locator('.al-langevin [data-control="size"]').focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.locator('.al-langevin [data-control="noise"]').focus()
    page.keyboard.press("ArrowLeft")
    press(page, "10 steps")
    now = state(page)["setting"]
    assert (now.size, now.log_snr) == (SIZES[SIZES.index(0.1) + 3], 4.5)
    agrees(page, [Setting()] * 10 + [now] * 10)
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_a_step_that_is_too_large_breaks_it(page):
    page.locator('.al-langevin [data-control="size"]').focus()
    page.keyboard.press("End")
    press(page, "10 steps", 3)
    says = page.locator(".al-verdict")
    assert says.text_content().startswith("It flew apart")
    assert "al-no" in says.get_attribute("class")
    shot(page, "14_flown")


def test_run_and_pause(page):
    press(page, "run")
    page.wait_for_function(f"+{DRAWN}.split(' ')[0] >= 300", timeout=60_000)
    press(page, "pause")
    now = state(page)
    assert not now["playing"]
    page.wait_for_timeout(300)
    assert state(page)["steps"] == now["steps"]
    agrees(page, [Setting()] * now["steps"])
    assert page.locator(".al-verdict").text_content().startswith("Wrong weights")
    shot(page, "14_wrong_weights")


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    press(page, "10 steps", 2)
    choose(page, "noise", 3)
    before = page.evaluate(DRAWN)
    page.wait_for_timeout(800)
    assert page.evaluate(DRAWN) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '.al-langevin [data-control="size"]', DRAWN, presses=10)) == 10
    assert len(latencies(page, '.al-langevin [data-control="noise"]', DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
