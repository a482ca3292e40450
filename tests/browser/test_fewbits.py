"""The few-bits explorer in JupyterLab, in a browser: by keyboard and by mouse; its rounding against Python's."""

import pytest
import torch
from browser.harness import loaded, shot, small_gpt

from aigc_lessons.widgets.fewbits import nats, planted, squeezed
from aigc_lessons.widgets.playground import weights_of
from aigc_lessons.widgets.scripts import script

SETUP = """\
from aigc_lessons.data.text import shakespeare
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.widgets.fewbits import FewBits

tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
FewBits(pretrained("shakespeare"), tokenizer, shakespeare(stand_in=True).held_out[30_000:30_257])"""
SOURCE = script("sampling.js", "gpt.js", "fewbits.js")
AT_REST = "(n) => document.querySelector('.al-bits .al-page span:last-child').textContent.length === n"


def rest(page):
    page.wait_for_function(AT_REST, arg=118, timeout=60_000)


def preset(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    rest(page)
    return state(page)


def state(page):
    texts = page.locator(".al-bits .al-meter b").all_text_contents()
    more = float(texts[2].replace("−", "-"))
    return more, texts[0], page.locator(".al-bits .al-verdict").text_content(), page.locator(".al-page").text_content()


@pytest.fixture
def page(lesson):
    lesson.page.locator(".al-bits").scroll_into_view_if_needed()
    preset(lesson.page, "8 bits")
    return lesson.page


def test_breaking_and_mending(page):
    more, size, says, text = state(page)
    assert abs(more) < 0.01
    assert says.startswith("As good as")
    shot(page, "38_8_bits")
    broken = preset(page, "2 bits")
    assert broken[0] > 0.6
    assert broken[2].startswith("Broken")
    assert broken[3] != text
    assert broken[1] != size
    shot(page, "38_2_bits")
    outliers = preset(page, "4 bits, outliers")[0]
    assert outliers > 3 * max(preset(page, "4 bits")[0], 0.01)
    shot(page, "38_4_bits")
    whole = preset(page, "all of float32")
    assert abs(whole[0]) < 1e-3
    assert "1.0 times" in whole[1]


def test_by_keyboard_and_mouse(page):
    bits = page.locator('.al-bits [data-control="bits"]')
    bits.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert bits.get_attribute("aria-valuetext") == "4"
    rest(page)
    four = state(page)
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"
    page.locator('.al-bits [data-control="search"]').click()
    rest(page)
    assert state(page)[0] != four[0]
    grid = page.locator(".al-bits svg .al-grid").count()
    page.locator('.al-bits [data-control="feed-forward"]').click()
    rest(page)
    assert page.locator(".al-bits svg .al-grid").count() == 0 < grid <= 15
    assert page.locator(".al-bits svg").get_attribute("aria-label").startswith("32 weights of one row")


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []


# ------------------------------------------------------------------- the script's mathematics, without JupyterLab
SQUEEZE = """({ sizes, weights, how }) => {
  const list = m.matrices(sizes), from = Float32Array.from(weights), into = from.slice();
  if (how.outlier !== 1) m.plant(from, list, how.outlier);
  return { ...m.squeeze(from, into, list, how), from: Array.from(from), into: Array.from(into) };
}"""
HOWS = [
    {"bits": bits, "group": group, "search": search, "outlier": outlier, "parts": parts}
    for bits, group, search, outlier, parts in [
        (8, 32, False, 1, ["embedding", "attention", "feed-forward", "head"]),
        (4, 8, True, 1, ["embedding", "attention", "feed-forward", "head"]),
        (3, 0, True, 16, ["feed-forward", "attention"]),
        (2, 16, False, 64, ["head", "feed-forward"]),
    ]
]


def apart(run, how):
    """Share of the weights that are not Python's to 1e-4 of the largest, and the differences of size and error."""
    model = small_gpt()
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    got = run(SQUEEZE, {"sizes": sizes, "weights": weights_of(model).tolist(), "how": how})
    state = planted(model.state_dict(), how["outlier"]) if how["outlier"] != 1 else model.state_dict()
    found, size, error = squeezed(state, how["bits"], how["group"], search=how["search"], parts=how["parts"])
    model.load_state_dict(found)
    wanted = weights_of(model)
    off = ((torch.tensor(got["into"]) - wanted).abs() > 1e-4 * wanted.abs().max()).float().mean().item()
    return off, abs(got["bytes"] - size), abs(got["error"] - error)


def test_the_rounding_is_pythons(browser):
    """Ties in the last digit of a float32 may fall the other way: at most one weight in a thousand."""
    with browser.new_page() as page:
        for how in HOWS:
            off, size, error = apart(loaded(page, SOURCE), how)
            assert off <= 1e-3, how
            assert size == 0
            assert error < 1e-4


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("const m = 2 ** (bits - 1) - 1;\n  let most", "const m = 2 ** (bits - 1);\n  let most"),
        ("Math.abs(weights[i])", "weights[i]"),
        ("/= Math.sqrt(F)", "/= F"),
        ("2 * rows * Math.ceil(columns / wide)", "rows * Math.ceil(columns / wide)"),
        ("c = 5; c < columns; c += 32", "c = 4; c < columns; c += 32"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    assert SOURCE.count(right) == 1
    with browser.new_page() as page:
        found = [apart(loaded(page, SOURCE.replace(right, wrong)), how) for how in HOWS]
    assert any(off > 1e-3 or size > 0 or not error < 1e-4 for off, size, error in found)


def test_half_and_ties(browser):
    values = [0.1, -0.333, 65504, 1e-5, 6e-8, 2.5e-8, 1.00048828125, 0.0]
    with browser.new_page() as page:
        run = loaded(page, SOURCE)
        got = run("(v) => v.map((x) => m.half(x))", values)
        assert got == torch.tensor(values).half().float().tolist()
        assert run("(v) => v.map((x) => m.codeOf(x, 1, 7))", [0.5, 1.5, 2.5, -0.5, -1.5, 9]) == [0, 2, 2, 0, -2, 7]


def test_the_loss_is_pythons(page):
    """What the meter shows after 8 bits is what Python measures, to a thousandth."""
    from aigc_lessons.data.text import shakespeare
    from aigc_lessons.language.tokenizer import CharTokenizer
    from aigc_lessons.training.checkpoints import card, pretrained

    tokenizer, model = CharTokenizer.from_text(card("shakespeare")["characters"]), pretrained("shakespeare")
    ids = tokenizer.encode(shakespeare(stand_in=True).held_out[30_000:30_257])
    base = nats(model, ids)
    model.load_state_dict(squeezed(model.state_dict(), 3)[0])
    assert preset(page, "3 bits")[0] == pytest.approx(nats(model, ids) - base, abs=2e-3)
