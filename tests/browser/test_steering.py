"""Lesson 16 in JupyterLab, in a browser: the steering explorer by keyboard and by mouse."""

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.steering import Setting, steer, verdict

LESSON = "16_guidance.ipynb"
DRAWN = "document.querySelector('.al-steering').dataset.drawn"
PICTURE = "document.querySelector('.al-steering canvas').toDataURL()"
# pixels of blue points in the right half
BLUE = """() => { const c = document.querySelector('.al-steering canvas'), s = c.width / 880;
  const d = c.getContext('2d').getImageData(452 * s, 24 * s, 420 * s, 420 * s).data; let blue = 0;
  for (let i = 0; i < d.length; i += 4) if (d[i] < 100 && d[i + 2] > 140) blue++;
  return blue / s / s; }"""


@pytest.fixture
def page(lesson):
    """Back to how it began: towards A, away from nothing, scale 3, guided everywhere, the samples shown."""
    page = lesson.page
    page.locator(".al-steering").scroll_into_view_if_needed()
    press(page, "label", 0)
    press(page, "against", 3)
    for control, value in {"scale": 3, "last": 1000, "first": 0, "frame": 50}.items():
        choose(page, control, value)
    return page


def press(page, group, label):
    page.locator(f'.al-steering button[data-{group}="{label}"]').click()


def choose(page, control, value):
    page.locator(f'.al-steering [data-control="{control}"]').evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def setting(page):
    label, against, scale, first, last, frame = page.evaluate(DRAWN).split()
    return Setting(int(label), int(against), float(scale), int(first), int(last)), int(frame)


def agrees(page):
    """Points, claim and words are Python's."""
    here, _ = setting(page)
    steered = steer(here)
    x, y = steered.frames[-1].T
    expected = [x.mean(), y.mean(), (x * y).mean(), steered.asked, steered.outside, *steered.claimed]
    moments = [float(m) for m in page.evaluate("document.querySelector('.al-steering').dataset.moments").split()]
    assert moments == pytest.approx([float(e) for e in expected], abs=1e-6, rel=1e-5)
    assert page.locator(".al-steering .al-verdict").text_content() == verdict(steered, here)


def test_the_browser_steers_where_python_steers(page):
    agrees(page)
    tried = [(1, 3, 8.0, 0, 1000), (2, 3, 4.5, 300, 700), (0, 1, 1.5, 0, 1000), (1, 0, 3.0, 600, 900), (0, 3, 0.0, 0, 1000)]
    for label, against, scale, first, last in tried:
        press(page, "label", label)
        press(page, "against", against)
        for control, value in {"scale": scale, "last": last, "first": first}.items():
            choose(page, control, value)
        assert setting(page) == (Setting(label, against, scale, first, last), 50)
        agrees(page)
        shot(page, f"16_{label}{against}_{scale:g}_{first}_{last}")


def test_too_strong_breaks_it_and_an_interval_mends_it(page):
    says = page.locator(".al-steering .al-verdict")
    press(page, "label", 1)
    page.locator('.al-steering [data-control="scale"]').focus()
    page.keyboard.press("End")
    assert setting(page)[0].scale == 10
    assert says.text_content().startswith("Off the data")
    assert "al-no" in says.get_attribute("class")
    shot(page, "16_broken")
    page.locator('.al-steering [data-control="last"]').focus()
    for _ in range(13):
        page.keyboard.press("ArrowLeft")
    assert setting(page)[0].last == 350
    assert says.text_content().startswith("As claimed")
    assert "al-no" not in says.get_attribute("class")
    agrees(page)
    shot(page, "16_mended")
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_scale_by_keyboard_and_mouse(page):
    slider = page.locator('.al-steering [data-control="scale"]')
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert setting(page)[0].scale == 3.25
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert abs(setting(page)[0].scale - 8) <= 0.5


def test_the_walk_can_be_scrubbed(page):
    pictures = set()
    page.locator('.al-steering [data-control="frame"]').focus()
    for key in ("Home", "PageUp", "End"):
        page.keyboard.press(key)
        assert page.evaluate(BLUE) > 300
        pictures.add(page.evaluate(PICTURE))
    assert len(pictures) == 3
    page.keyboard.press("Home")
    assert "t = 1000" in page.locator(".al-steering .al-sliders").text_content()
    shot(page, "16_noise")


def test_buttons_say_which_is_chosen(page):
    press(page, "label", 2)
    press(page, "against", 0)
    pressed = page.locator(".al-steering button[aria-pressed='true']").all_text_contents()
    assert pressed == ["C", "A"]


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    choose(page, "scale", 5)
    before = page.evaluate(PICTURE)
    page.wait_for_timeout(800)
    assert page.evaluate(PICTURE) == before


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '.al-steering [data-control="scale"]', DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
