"""The evidence explorer in JupyterLab, in a browser: its network and its bag against Python's, and what breaks them."""

import pytest
import torch
from browser.harness import loaded, shot

from aigc_lessons.data.plays import windows
from aigc_lessons.models.classifier import Classifier
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.widgets.evidence import weights_of
from aigc_lessons.widgets.scripts import script

SETUP = """\
import torch
from aigc_lessons.data import plays
from aigc_lessons.studio import finetuning as ft
from aigc_lessons.widgets.evidence import SINGLE_WORDS, Evidence, character_evidence, proper_names, word_evidence

torch.set_num_threads(1)
whole = plays.passages(stand_in=True)
learn, _, judge = plays.split(whole)
rows = lambda side, n: ft.play_examples(side[plays.balanced(side.labels, n, torch.Generator().manual_seed(0))])
labelled, test = rows(learn, 32), rows(judge, 20)
network = ft.classifier(ft.trunk())
ft.probe(ft.features(network, labelled.ids), labelled.labels, 0.1).put_into(network.head)
bag = ft.BagOfWords(labelled.texts, labelled.labels, SINGLE_WORDS, 100.0)
shown = {f"passage {k}": test.texts[k] for k in range(3)}
for text in shown.values():
    _, parts, bias = character_evidence(network, ft.alphabet(), text)
    _, said, b = word_evidence(bag, text)
    z = torch.tensor([parts.sum().item() + bias, said.sum().item() + b])
    print("P", *[round(p, 1) for p in (100 * z.sigmoid()).tolist()])
Evidence(network, bag, ft.alphabet(), shown, test, proper_names(whole.texts))"""
SOURCE = script("gpt.js", "evidence.js")
DONE = "document.querySelector('.al-evidence').dataset.done"


@pytest.fixture
def page(lesson):
    """As it was at first."""
    page = lesson.page
    page.wait_for_function(f"{DONE} !== undefined")
    page.locator(".al-evidence").scroll_into_view_if_needed()
    choose(page, "passage 0")
    page.get_by_role("button", name="original").click()
    page.wait_for_function("!document.querySelector('.al-evidence .al-verdict').textContent.includes('reading')")
    return page


def settled(page, act):
    """Do something that changes the picture, and wait until it has."""
    before = page.evaluate(DONE)
    act()
    page.wait_for_function(f"{DONE} !== {before!r}")
    page.wait_for_function("!document.querySelector('.al-evidence .al-verdict').textContent.includes('reading')")
    return numbers(page)


def choose(page, name):
    if page.locator(".al-evidence select").input_value() != name:
        settled(page, lambda: page.locator(".al-evidence select").select_option(name))


def numbers(page):
    """Percent history: (network, bag of words)."""
    return [float(page.locator(".al-evidence .al-bar b").nth(k).text_content().split()[1]) for k in (0, 1)]


def test_the_answers_are_pythons(page):
    printed = page.locator(".jp-OutputArea-output pre").all_text_contents()
    lines = [line.split()[1:] for text in printed for line in text.splitlines() if line.startswith("P")]
    for k in range(3):
        choose(page, f"passage {k}")
        assert numbers(page) == pytest.approx([float(x) for x in lines[k]], abs=0.11)
    shot(page, "35_first")


def test_breaking_it(page):
    """Words shuffled: the bag does not notice, the network does; names gone: both may; all gone: said so."""
    network, bag = numbers(page)
    other = settled(page, lambda: page.get_by_role("button", name="shuffle words").click())
    assert other[1] == bag
    assert other[0] != network
    assert "the bag of words by nothing" in page.locator(".al-evidence .al-verdict").text_content()
    shot(page, "35_shuffled")
    assert settled(page, lambda: page.get_by_role("button", name="original").click()) == [network, bag]
    settled(page, lambda: page.get_by_role("button", name="no names").click())
    area = page.locator(".al-evidence textarea")
    area.fill("")
    page.wait_for_function("document.querySelector('.al-verdict').textContent.startsWith('There is nothing')")
    settled(page, lambda: area.fill("The king of France"))
    assert page.locator(".al-evidence .al-page").text_content().strip() == "The king of France"


def test_typing_at_the_end_moves_both(page):
    area = page.locator(".al-evidence textarea")
    area.focus()
    page.keyboard.press("Control+End")
    before = numbers(page)
    after = settled(page, lambda: page.keyboard.type("\nMy lord of France, the crown!", delay=5))
    page.wait_for_timeout(400)
    assert numbers(page) != before
    assert after is not None
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"


def test_the_threshold_by_keyboard_and_the_reader_by_mouse(page):
    slider = page.locator(".al-evidence input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    assert "answers 20 (100 %)" in page.locator(".al-total").text_content()
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "75 %"
    assert "answers 20 " not in page.locator(".al-total").text_content()
    page.locator(".al-evidence .al-bar input").nth(1).click()
    assert page.locator(".al-total").text_content().startswith("bag of words, 20 test passages")
    assert page.locator(".al-page [class^='al-']").count() > 3
    shot(page, "35_words")
    page.locator(".al-evidence .al-bar input").nth(0).click()
    cells = sum(int(page.locator(".al-evidence td").nth(k).text_content()) for k in range(4))
    assert f"answers {cells} " in page.locator(".al-total").text_content()


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []


# ------------------------------------------------------------------- the script's mathematics, without JupyterLab
def small():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Classifier(GPT(GPTConfig(11, 12, 2, 3, 24)).eval(), 24, 2)
        for p in net.parameters():
            p.data.normal_(std=0.4)
    return net


READ = """({ sizes, weights, texts }) => {
  const reader = new m.Reader(sizes, Float32Array.from(weights), "abcdefghijk");
  return texts.map((windows) => {
    reader.begin(windows);
    for (let k = 0; k < 3 && !reader.done; k++) reader.step(); // stopped in the middle, and begun anew
    reader.begin(windows);
    for (let k = 0; k < 1000 && !reader.done; k++) reader.step(); // what goes wrong must not go on for ever
    return reader.scores;
  });
}"""
TEXTS = [["abcab", "ddd"], ["abcak", "ddd"], ["abcakfff", "ddd", "abc"], ["ab"], ["ddd", "abcak"], []]


def scores_apart(run, net):
    """Largest difference of the browser's parts from Python's."""
    sizes = {name: getattr(net.trunk.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    got = run(READ, {"sizes": sizes, "weights": weights_of(net).tolist(), "texts": TEXTS})
    w, worst = net.head.weight[1] - net.head.weight[0], 0.0
    for text, scores in zip(TEXTS, got, strict=True):
        for window, score in zip(text, scores, strict=True):
            ids = torch.tensor([["abcdefghijk".index(c) for c in window]])
            wanted = (net.trunk(ids)[0] @ w).detach()
            worst = max(worst, (torch.tensor(score) - wanted).abs().max().item())
    return worst


def test_what_is_kept_changes_nothing(browser):
    """Windows in any order, half read, changed at the end: the parts are those of a fresh reading, by Python."""
    with browser.new_page() as page:
        assert scores_apart(loaded(page, SOURCE), small()) < 1e-4


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("this.net.cut(same)", "this.net.cut(same + 1)"),
        ("window[same] === this.last[same]", "true"),
        (".slice(0, same)", ".slice(0)"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    assert SOURCE.count(right) == 1
    with browser.new_page() as page:
        try:
            apart = scores_apart(loaded(page, SOURCE.replace(right, wrong)), small())
        except Exception:
            return
        assert not apart < 1e-4


def test_windows_shuffles_and_counts_are_pythons(browser):
    texts = ["ab\ncd\n\nefgh", "a" * 20 + "\nb", "", "a?b\n" * 5]
    with browser.new_page() as page:
        run = loaded(page, SOURCE)
        got = run("(texts) => texts.map((t) => m.cut(t, 8, new Set('abcdefgh\\n')))", texts)
        wanted = [windows([x for x in "".join(c for c in t if c in "abcdefgh\n").split("\n") if x], 8) for t in texts]
        assert got == wanted
        text = "one two\nthree four five\nsix"
        mixed = run("([t, n]) => Array.from({ length: n }, (_, s) => m.shuffled(t, s))", [text, 6])
        assert all(sorted(x.split()) == sorted(text.split()) for x in mixed)
        assert all([len(line.split()) for line in x.split("\n")] == [2, 3, 1] for x in mixed)
        assert len(set(mixed)) > 3
        counts = run("([p, l, s]) => m.decided(p, l, s)", [[0.9, 0.6, 0.4, 0.05, 0.7], [1, 0, 1, 0, 1], 0.65])
        assert counts == [[1, 0], [0, 2]]
