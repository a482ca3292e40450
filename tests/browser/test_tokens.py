"""The token explorer in JupyterLab, in a browser: by keyboard and by mouse; and its BPE against Python's, text by text."""

import random

import pytest
from browser.harness import latencies, loaded, shot

from aigc_lessons.language import bpe
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.widgets.scripts import script
from aigc_lessons.widgets.tokens import EXAMPLES, shown, spelled, statistics

SCRIPT = script("bpe.js", "tokens.js")
DRAWN = "document.querySelector('.al-tokens').dataset.drawn"
SETUP = """\
from aigc_lessons.data.text import sanguo, shakespeare
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.widgets.tokens import TokenExplorer

tokenizers = {
    "plays": BPETokenizer.train(shakespeare(stand_in=True).train[:200_000], 700),
    "三国演义": BPETokenizer.train(sanguo(stand_in=True)[:60_000], 700),
}
explorer = TokenExplorer(tokenizers)
explorer"""


@pytest.fixture(scope="module")
def tokenizers():
    """The same as in the notebook."""
    names = {}
    exec(SETUP.rsplit("\n", 2)[0], names)
    return names["tokenizers"]


@pytest.fixture
def page(lesson):
    """The first example, all merges."""
    page = lesson.page
    page.locator(".al-tokens").scroll_into_view_if_needed()
    page.locator(".al-examples button").first.click()
    page.locator(".al-merges input").focus()
    page.keyboard.press("End")
    return page


def panel(page, name):
    return page.locator(f".al-tokens section[data-name='{name}']")


def ids(page, name):
    return [int(i) for i in panel(page, name).locator("li").evaluate_all("all => all.map((e) => e.dataset.id)")]


def texts(page, name):
    return panel(page, name).locator("li").all_text_contents()


def type_in(page, text):
    page.locator(".al-box textarea").fill(text)


def test_every_example_is_cut_as_python_cuts_it(page, tokenizers):
    for name, text in EXAMPLES.items():
        page.locator(".al-examples button", has_text=name).first.click()
        assert page.locator(".al-box textarea").input_value() == text
        for which, tokenizer in tokenizers.items():
            assert ids(page, which) == spelled(tokenizer, text)
            assert texts(page, which) == [shown(tokenizer.decode_bytes([i])) for i in spelled(tokenizer, text)]
        shot(page, f"tokens_{name}")


def test_typing_by_keyboard_key_by_key(page, tokenizers):
    box = page.locator(".al-box textarea")
    box.focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert page.locator(".al-verdict").text_content() == "Nothing typed yet."
    for k, key in enumerate("to be: 123", start=1):
        page.keyboard.type(key)
        assert ids(page, "plays") == spelled(tokenizers["plays"], "to be: 123"[:k])
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1, "no key reached JupyterLab"


def test_the_numbers_are_pythons(page, tokenizers):
    text = "Cao Cao 曹操 😀"
    type_in(page, text)
    said, cut = page.locator(".al-verdict").text_content(), 0
    for name, tokenizer in tokenizers.items():
        facts = statistics(tokenizer, text)
        cut += facts["cut"]
        assert panel(page, name).locator(".al-stats").text_content() == (
            f"{facts['tokens']} tokens · {facts['bytes']} bytes · {facts['bytes'] / facts['tokens']:.2f} bytes a token"
        )
        assert panel(page, name).locator(".al-cut").count() == facts["cut"]
    assert f"{cut} tokens with dashed edges" in said


def test_the_slider_takes_merges_away_by_keyboard(page, tokenizers):
    slider = page.locator(".al-merges input")
    slider.focus()
    page.keyboard.press("Home")
    assert ids(page, "plays") == spelled(tokenizers["plays"], EXAMPLES["English"], 0)
    assert panel(page, "plays").locator(".al-last").text_content() == "no merge used: every byte is a token"
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "2 of 444"
    for name, tokenizer in tokenizers.items():
        assert ids(page, name) == spelled(tokenizer, EXAMPLES["English"], 2)
        new = shown(tokenizer.decode_bytes([257]))
        assert panel(page, name).locator(".al-last").text_content().endswith(f"→ {new}")
    shot(page, "tokens_two_merges")


def test_the_slider_by_mouse(page):
    box = page.locator(".al-merges input").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 5 < int(page.evaluate(DRAWN).split()[0]) < 200
    before = page.evaluate(DRAWN)
    page.mouse.click(box["x"] + 9, box["y"] + box["height"] / 2)
    assert page.evaluate(DRAWN) != before


def test_a_token_tells_where_it_comes_from(page, tokenizers):
    chosen = panel(page, "plays").locator("li").nth(4)
    chosen.hover()
    detail = panel(page, "plays").locator(".al-detail")
    i = spelled(tokenizers["plays"], EXAMPLES["English"])[4]
    left, right = tokenizers["plays"].merges[i - 256]
    parts = " + ".join(shown(tokenizers["plays"].decode_bytes([part])) for part in (left, right))
    assert detail.text_content().startswith(f"token 5: id {i}, ")
    assert detail.text_content().endswith(f"merge {i - 255}: {parts}")
    panel(page, "plays").locator("li").first.focus()
    assert detail.text_content().startswith("token 1: ")
    for key, number in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("Home", 1), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert detail.text_content().startswith(f"token {number}: ")
    page.keyboard.press("End")
    assert detail.text_content().startswith(f"token {len(ids(page, 'plays'))}: ")
    assert panel(page, "plays").locator("li[tabindex='0']").count() == 1
    shot(page, "tokens_pointed")


def test_a_lone_half_of_a_pair_becomes_a_replacement_character(page, tokenizers):
    page.locator(".al-box textarea").evaluate(
        "(box) => { box.value = 'a\\ud83d'; box.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    assert ids(page, "plays") == spelled(tokenizers["plays"], "a\ufffd")


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    page.locator(".al-merges input").focus()
    page.keyboard.press("Home")
    assert len(latencies(page, ".al-merges input", DRAWN, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


# -------------------------------------------------------------------------------- the script's BPE, without JupyterLab
# every kind of white space in Unicode and what only looks like it; letters, numbers and signs of one to four bytes
ALPHABET = [
    *"aAé ''''sdtlvremo0123  \n\t\r.,!-:三国演义，。①ⅷ٣ßñ😀𝟘한",
    *["\x85", "\xa0", "\u1680", "\u180e", "\u2028", "\u200b", "\u3000", "\ufeff", "\x1c", "\x1f", "\u200d", "\ufe0f"],
    *["e\u0301", "👩\u200d💻", "ก\u0e47"],
]


def cases(n=300, seed=0):
    draw = random.Random(seed)
    mixed = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 24))) for _ in range(n)]
    fixed = ["", " ", "  ", "a  ", "  a", "don't we'll they've I'm", "x'y", "aaaaaaa", "\r\n", "12345", "ab" * 300]
    return [*EXAMPLES.values(), *fixed, *mixed]


ENCODE = (
    "({ merges, order, cases, odd }) => { const t = m.build(merges, order);"
    " return [cases.map(([text, used]) => m.encode(text, t, used)), t.bytes.map(m.shown), odd.map(m.shown),"
    " cases.map(([text]) => m.split(text))]; }"
)


def compare(browser, tokenizers, source):
    with browser.new_page() as page:
        run = loaded(page, source)
        for tokenizer in tokenizers.values():
            asked = [(text, used) for text in cases() for used in (0, 9, 150, 444)]
            odd = [c.encode()[:end] for c in ALPHABET for end in (None, -1)] + ["\ufeffa".encode(), "\ue000".encode()]
            given = {
                "merges": [list(pair) for pair in tokenizer.merges],
                "order": list(bpe.BYTE_ORDER),
                "cases": asked,
                "odd": [list(token) for token in odd],
            }
            found, seen, odd_seen, words = run(ENCODE, given)
            assert odd_seen == [shown(token) for token in odd]
            assert seen == [shown(tokenizer.decode_bytes([i])) for i in range(tokenizer.vocab_size)]
            fewer = {used: BPETokenizer(tokenizer.merges[:used]) for used in (0, 9, 150, 444)}
            for (text, used), ids, cut in zip(asked, found, words, strict=True):
                assert cut == bpe.split(text), repr(text)
                assert ids == fewer[used].encode(text), (repr(text), used)


def test_ids_words_and_signs_are_pythons(browser, tokenizers):
    compare(browser, tokenizers, SCRIPT)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"[^\p{White_Space}\p{L}\p{N}]", r"[^\s\p{L}\p{N}]"),
        (r"(?!\P{White_Space})", ""),
        (r" ?\p{N}+", r"\p{N}+"),
        ("Math.min(first,", "Math.max(0, first,"),
        ("merged.push(first); i++;", "merged.push(first);"),
        ("256 + used", "255 + used"),
        ("ignoreBOM: true", "ignoreBOM: false"),
        ("idOfByte[byte])", "byte)"),
    ],
)
def test_planted_mistakes_are_caught(browser, tokenizers, right, wrong):
    source = SCRIPT
    assert source.count(right) == 1
    with pytest.raises(AssertionError):
        compare(browser, tokenizers, source.replace(right, wrong))
