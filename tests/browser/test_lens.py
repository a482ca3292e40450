"""The lens explorer of lesson 32 in JupyterLab, in a browser: by keyboard and by mouse; its numbers against Python's."""

import pytest
import torch
from browser.harness import latencies, loaded, shot, small_gpt

from aigc_lessons.evaluation.lens import parts_of
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.widgets.lens import BROKEN, read_line
from aigc_lessons.widgets.playground import weights_of
from aigc_lessons.widgets.scripts import script

SETUP = """\
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.widgets.lens import LensExplorer

tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
LensExplorer(pretrained("shakespeare"), tokenizer, "To be, or not to be: that is the question", position=12)"""
LINE = "To be, or not to be: that is the question"
DRAWN = "document.querySelector('.al-lens').dataset.drawn"
SOURCE = script("sampling.js", "gpt.js", "lens.js")


@pytest.fixture
def page(lesson):
    """As it was at first."""
    page = lesson.page
    page.locator(".al-lens").scroll_into_view_if_needed()
    page.locator(".al-lens input[type=text]").fill(LINE)
    if page.locator(".al-lens .al-all").is_enabled():
        page.locator(".al-lens .al-all").click()
    page.locator(".al-lens input[type=range]").fill("12")
    return page


def state(page):
    """Position, parts that are off, loss of the line."""
    position, off, loss = page.evaluate(DRAWN).split(" ")
    return int(position), [int(part) for part in off.split("+") if part], float(loss)


def verdict(page):
    return page.locator(".al-lens .al-verdict").text_content()


def expected(text, off=()):
    model = pretrained("shakespeare")
    ids = torch.tensor(CharTokenizer.from_text(card("shakespeare")["characters"]).encode(text))
    return read_line(model, ids, [parts_of(model)[part] for part in off])


def test_the_line_is_read_as_python_reads_it(page):
    assert state(page) == (12, [], pytest.approx(expected(LINE).loss, abs=2e-3))
    assert verdict(page).startswith("All parts write.")
    rows = page.locator(".al-lens tr")
    assert rows.count() == 8
    assert rows.nth(3).locator("th").text_content() == "feed-forward 1"
    loud = expected(LINE).wrote[2, 12].item()
    assert float(rows.nth(3).locator("td").first.text_content()) == pytest.approx(loud, abs=0.06)
    shot(page, "32_lens")


def test_moving_by_keyboard(page):
    page.locator(".al-lens input[type=range]").focus()
    guesses = page.locator(".al-lens table").text_content()
    page.keyboard.press("ArrowRight")
    assert state(page)[0] == 13
    assert page.locator(".al-lens table").text_content() != guesses
    page.keyboard.press("End")
    assert state(page)[0] == len(LINE) - 1
    page.keyboard.press("Home")
    assert state(page)[0] == 0
    assert "letter 1 of 41, after T" in page.locator(".al-lens input[type=range]").get_attribute("aria-valuetext")
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_moving_by_mouse(page):
    box = page.locator(".al-lens canvas").bounding_box()
    scale, wide = box["width"] / 880, (880 - 126 - 4) / len(LINE)
    page.mouse.click(box["x"] + scale * (126 + 20.5 * wide), box["y"] + 80)
    assert state(page)[0] == 20
    page.mouse.click(box["x"] + 20, box["y"] + 80)
    assert state(page)[0] == 20, "the names are no place"
    assert "the head guesses" in page.locator(".al-lens canvas").get_attribute("aria-label")


def test_breaking_and_mending(page):
    whole = state(page)[2]
    button = page.locator(".al-lens button", has_text="feed-forward 1")
    button.focus()
    page.keyboard.press("Enter")
    assert state(page) == (12, [1], pytest.approx(expected(LINE, [1]).loss, abs=5e-3))
    assert button.get_attribute("aria-pressed") == "false"
    assert verdict(page).startswith("Without feed-forward 1")
    assert "Worse than knowing nothing (4.22)" in verdict(page)
    assert page.locator(".al-lens .al-verdict.al-no").count() == 1
    shot(page, "32_lens_broken")
    button.click()
    assert state(page) == (12, [], pytest.approx(whole))
    for name in ("attention 1", "attention 2", "attention 3"):
        page.locator(".al-lens button", has_text=name).click()
    assert state(page)[1] == [0, 2, 4]
    assert state(page)[2] == pytest.approx(expected(LINE, [0, 2, 4]).loss, abs=5e-3)
    shot(page, "32_lens_no_attention")
    page.locator(".al-lens .al-all").click()
    assert state(page)[1] == []


def test_another_line(page):
    box = page.locator(".al-lens input[type=text]")
    box.fill("O Romeo, 7 Romeo")
    assert state(page)[2] == pytest.approx(expected("O Romeo,  Romeo").loss, abs=2e-3)
    assert "7" in box.get_attribute("title")
    box.fill("O Romeo,  Romeo, wherefore art thou Romeo")
    assert state(page)[2] == pytest.approx(expected("O Romeo,  Romeo, wherefore art thou Romeo").loss, abs=2e-3)
    box.fill("O")
    assert "at least two letters" in verdict(page)
    box.fill("be" * 40)
    page.locator(".al-lens input[type=range]").focus()
    page.keyboard.press("End")
    assert state(page)[0] == 63, "no longer than the line may be"
    shot(page, "32_lens_long")


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, ".al-lens input[type=range]", DRAWN, presses=8)) == 8


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []


# ------------------------------------------------------------------- the scripts' mathematics, without JupyterLab
@pytest.fixture(scope="module")
def modules(browser):
    with browser.new_page() as page:
        yield loaded(page, SOURCE)


READ = """({ sizes, weights, lines }) => {
  const kept = new m.LineReader(new m.GPT(sizes, Float32Array.from(weights)));
  return lines.map(([ids, off]) => {
    const letters = kept.read(ids, off);
    return { p: letters.map((one) => one.p.map((p) => Array.from(p))), wrote: letters.map((one) => one.wrote),
             losses: m.losses(letters, ids) };
  });
}"""
LINES = [
    ([3, 1, 4, 1, 5, 9], []),
    ([3, 1, 4, 1, 5, 9, 2, 6], []),
    ([3, 1, 4, 2, 5], []),
    ([3, 1, 4], []),
    ([3, 1, 4, 2, 5], [0]),
    ([3, 1, 4, 2, 5], [1, 2]),
    ([7, 1, 4, 2, 5], [0, 1, 2, 3]),
]


def compare(run):
    model = small_gpt()
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    found = run(READ, {"sizes": sizes, "weights": weights_of(model).tolist(), "lines": LINES})
    for (ids, off), got in zip(LINES, found, strict=True):
        wanted = read_line(model, torch.tensor(ids), [parts_of(model)[part] for part in off])
        torch.testing.assert_close(torch.tensor(got["p"]).transpose(0, 1), wanted.p, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(got["wrote"]).T, wanted.wrote, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.tensor(got["losses"]), wanted.nats.mean(1), rtol=1e-4, atol=1e-4)


def test_lines_are_pythons_whatever_was_read_before(modules):
    """Longer, shorter, changed in the middle, with parts off: what is kept of the last line changes nothing."""
    compare(modules)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("return !off.has(part)", "return true"),
        ("before ? before[i] : 0", "0"),
        ("this.net.says(x)", "this.net.says(x.map((a) => 2 * a + 1))"),
        ("off.join() === this.off ?", "true ?"),
        ("Math.min(same, this.letters.length)", "Math.min(same + 1, this.letters.length)"),
        ("[ids[k + 1]]", "[ids[k]]"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    assert SOURCE.count(right) == 1
    with browser.new_page() as page, pytest.raises(AssertionError):
        compare(loaded(page, SOURCE.replace(right, wrong)))


def test_the_verdict_knows_what_is_broken(modules):
    names = ["attention 1", "feed-forward 1"]
    body = "([names, off, whole, now, most, broken]) => m.verdict(names, off, whole, now, most, broken)"
    for off, now, says, good in [
        ([], 1.5, "All parts write", True),
        ([0], 1.52, "hardly missed", True),
        ([0], 1.8, "It helped, by 0.30", True),
        ([0], 2.8, "Broken: the line has become 1.30", False),
        ([0, 1], 5.0, "Worse than knowing nothing (4.22)", False),
    ]:
        said, fine = modules(body, [names, off, 1.5, now, 4.22, BROKEN])
        assert says in said
        assert fine == good
