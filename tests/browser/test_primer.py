"""Lesson 02 in JupyterLab, in a browser: the broadcasting explorer by keyboard, by mouse and by typing."""

import random

import pytest
from browser.harness import latencies, shot

from aigc_lessons.widgets.primer import align, verdict

LESSON = "02_torch_primer.ipynb"
DRAWN = "document.querySelector('.al-broadcast').dataset.drawn"


@pytest.fixture
def page(lesson):
    """Back to (3, 1) and (4,)."""
    lesson.page.locator(".al-broadcast").scroll_into_view_if_needed()
    example(lesson.page, "column and row")
    return lesson.page


def example(page, name):
    page.locator(".al-examples button", has_text=name).first.click()


def says(page):
    return page.locator(".al-verdict").text_content()


def colour(page, column, row):
    """The ground of a cell of a, as drawn."""
    return page.evaluate(
        """([column, row]) => {
          const canvas = document.querySelector('.al-broadcast canvas'), sharp = canvas.width / 860;
          const [x, y] = [4 + 30 * column + 5, 26 + 30 * row + 6];
          return [...canvas.getContext('2d').getImageData(x * sharp, y * sharp, 1, 1).data].slice(0, 3);
        }""",
        [column, row],
    )


def test_at_first_a_column_meets_a_row(page):
    assert says(page) == verdict((3, 1), (4,))
    owned, copied = [0xCF, 0xE3, 0xF1], [255, 255, 255]
    assert [[colour(page, i, j) for i in range(4)] for j in range(3)] == 3 * [[owned, copied, copied, copied]]
    shot(page, "02_column_and_row")


def test_by_keyboard(page):
    tile = page.locator('[data-tile="b1"]')
    tile.focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(DRAWN) == "(3, 1) (5,)"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(DRAWN) == "(3, 1) (3,)"
    assert tile.get_attribute("aria-valuenow") == "3"
    assert page.evaluate("document.activeElement.dataset.tile") == "b1", "the focus stays while the picture changes"
    page.locator('[data-tile="a1"]').focus()
    page.keyboard.press("ArrowRight")
    assert "Refused: 2 against 3" in says(page)
    assert page.locator("td.al-refused").count() > 0
    assert page.locator(".al-out").last.text_content() == "✗"
    shot(page, "02_refused")


def test_by_mouse(page):
    cell = page.locator("td.al-b")
    cell.locator("button", has_text="+").click()
    assert page.evaluate(DRAWN) == "(3, 1) (5,)"
    cell.locator("button", has_text="−").click()
    cell.locator("button", has_text="−").click()
    assert page.evaluate(DRAWN) == "(3, 1) (3,)"
    example(page, "the trap")
    assert "16 sums from 4 and 4 numbers. No error, but" in says(page)
    shot(page, "02_trap")
    example(page, "points against points")
    assert says(page) == verdict((5, 1, 2), (4, 2))
    shot(page, "02_points")


def test_by_typing(page):
    field = page.locator('input[data-shape="a"]')
    field.fill("4000, 784")
    page.locator('input[data-shape="b"]').fill("(784,)")
    assert says(page) == verdict((4000, 784), (784,))
    assert page.locator(".al-broadcast canvas").evaluate("e => e.clientHeight") < 40, "too large to draw: one line of words"
    field.fill("4000, seven")
    assert "whole numbers" in says(page)
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("1, 2, 3, 4, 5")
    assert field.get_attribute("aria-invalid") == "true"


# many pairs at once: one trip into the page for all of them
ASK = """(pairs) => pairs.map((pair) => {
  for (const [k, name] of ["a", "b"].entries()) {
    const field = document.querySelector(`input[data-shape="${name}"]`);
    field.value = pair[k].join(", ");
    field.dispatchEvent(new Event("input"));
  }
  const text = (one) => one.textContent;
  return [text(document.querySelector(".al-verdict")), [...document.querySelectorAll(".al-what")].map(text)];
})"""


def test_the_browser_says_what_python_says(page):
    """Two hundred pairs of shapes, some of them refused."""
    draw = random.Random(5)
    pairs = [[tuple(draw.choice([1, 1, 2, 3, 4]) for _ in range(draw.randint(0, 4))) for _ in "ab"] for _ in range(200)]
    heard = page.evaluate(ASK, [[list(a), list(b)] for a, b in pairs])
    for (a, b), (words, columns) in zip(pairs, heard, strict=True):
        assert words == verdict(a, b)
        assert columns == [says for *_, says in align(a, b).columns]
    assert 40 < sum(align(a, b).shape is None for a, b in pairs) < 160


def test_what_the_kernel_hears_changes_nothing_on_the_page(page):
    """The shapes travel to the kernel once the hand is still; both must have arrived, and both must stay."""
    example(page, "points against points")
    page.wait_for_timeout(800)
    assert page.evaluate(DRAWN) == "(5, 1, 2) (4, 2)"
    assert page.locator('input[data-shape="b"]').input_value() == "4, 2"


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '[data-tile="b1"]', DRAWN, presses=10)) == 10


def test_the_training_can_be_scrubbed(lesson):
    page = lesson.page
    slider = page.locator(".al-player input")
    slider.scroll_into_view_if_needed()
    slider.focus()
    page.keyboard.press("Home")
    assert "random weights" in page.locator(".al-player output").text_content()
    page.keyboard.press("End")
    assert "step 12" in page.locator(".al-player output").text_content()
    shot(page, "02_player")


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
