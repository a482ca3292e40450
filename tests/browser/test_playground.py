"""The decoding playground in JupyterLab, in a browser: by keyboard and by mouse; its network against Python's."""

import pytest
import torch
from browser.harness import latencies, loaded, shot, small_gpt

from aigc_lessons.language.generation import filter_logits, generate, penalise
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.widgets import playground
from aigc_lessons.widgets.playground import LENGTH, known_words, repeated, weights_of
from aigc_lessons.widgets.scripts import script

SETUP = """\
import re
from aigc_lessons.data.text import shakespeare
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.training.checkpoints import card, pretrained
from aigc_lessons.widgets.playground import Playground

words = set(re.findall(r"[a-z']+", shakespeare(stand_in=True).train.lower()))
tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
human = {"nats": 1.53, "repeated": 0.02, "known": 0.98}
Playground(pretrained("shakespeare"), tokenizer, words, human, prompt="JULIET:\\n")"""
DONE = "!/writing/.test(document.querySelector('.al-play .al-verdict').textContent)"
TEXT = "[...document.querySelectorAll('.al-play .al-page > span:not(.al-start)')].map((e) => e.textContent).join('')"
SOURCE = script("sampling.js", "gpt.js", "playground.js")


@pytest.fixture
def page(lesson):
    """As it was at first."""
    page = lesson.page
    page.locator(".al-play").scroll_into_view_if_needed()
    page.locator(".al-play input[type=number]").fill("0")
    page.locator(".al-play textarea").fill("JULIET:\n")
    preset(page, "as predicted")
    return page


def written(page):
    page.wait_for_function(DONE)
    return page.evaluate(TEXT)


def preset(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    return written(page)


def control(page, name):
    return page.locator(f'.al-play [data-control="{name}"]')


def verdict(page):
    return page.locator(".al-play .al-verdict").text_content()


def test_greedy_text_is_pythons(page):
    """320 letters, past the block, where the older half is forgotten."""
    tokenizer, gpt = CharTokenizer.from_text(card("shakespeare")["characters"]), pretrained("shakespeare")
    ids = torch.tensor([tokenizer.encode("JULIET:\n")])
    wanted = tokenizer.decode(torch.cat(list(generate(gpt, ids, LENGTH, temperature=0))).tolist())
    assert preset(page, "greedy") == wanted
    assert verdict(page).startswith("It goes round in circles")
    shot(page, "34_greedy")


def test_breaking_and_mending(page):
    lively = written(page)
    assert len(lively) == LENGTH
    shot(page, "34_as_predicted")
    hot = preset(page, "hot")
    assert verdict(page).startswith("It falls apart")
    shot(page, "34_hot")
    mended = preset(page, "hot + min-p")
    assert known(page) > 0.3
    assert len({lively, hot, mended}) == 3
    shot(page, "34_min_p")
    circles = repeats(page, preset(page, "greedy"))
    assert repeats(page, preset(page, "greedy + penalty")) < circles
    shot(page, "34_penalty")


def test_settings_that_move_two_sliders_stay_when_the_kernel_hears_of_them(page):
    text = preset(page, "hot + min-p")
    page.wait_for_timeout(800)  # the page tells the kernel once it is at rest
    assert [control(page, name).input_value() for name in ("temperature", "min_p")] == ["40", "20"]
    assert written(page) == text


def meter(page, which):
    return page.locator(".al-play .al-meter b").nth(which).text_content()


def repeats(page, text):
    share = repeated(text)
    assert meter(page, 1) == f"{round(100 * share)} %"
    return share


def known(page):
    return int(meter(page, 2).split("%")[0]) / 100


def test_controls_by_keyboard(page):
    before = written(page)
    control(page, "temperature").focus()
    page.keyboard.press("Home")
    assert control(page, "temperature").get_attribute("aria-valuetext") == "greedy"
    assert written(page) != before
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert control(page, "temperature").get_attribute("aria-valuetext") == "1.00"
    assert written(page) == before, "the same seed, the same text"
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"
    control(page, "top_k").focus()
    page.keyboard.press("Home")
    assert written(page) == preset(page, "greedy"), "one letter left is greedy"


def test_seed_and_prompt(page):
    first = written(page)
    page.get_by_role("button", name="another seed").click()
    second = written(page)
    assert second != first
    page.locator(".al-play textarea").fill("ROMEO:\nMy 7 lady")
    page.wait_for_function("document.querySelector('.al-start').textContent === 'ROMEO:\\nMy  lady'")
    assert "7" in page.locator(".al-play .al-start").get_attribute("title")
    assert written(page) not in (first, second)


def test_letters_are_shaded_and_underlined(page):
    preset(page, "top-p 0.9")
    kinds = page.evaluate("[...document.querySelectorAll('.al-page > span')].map((e) => e.className)")
    assert {"al-s0", "al-s1", "al-s2"} <= {kind.split()[0] for kind in kinds}
    assert any("al-alone" in kind for kind in kinds)
    preset(page, "as predicted")
    assert page.locator(".al-page .al-alone").count() == 0


def test_every_press_rewrites(page):
    sign = "document.querySelector('.al-play [data-control=\"temperature\"]').getAttribute('aria-valuetext')"
    assert len(latencies(page, '[data-control="temperature"]', sign, presses=6)) == 6


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []


# ------------------------------------------------------------------- the scripts' mathematics, without JupyterLab
@pytest.fixture(scope="module")
def modules(browser):
    with browser.new_page() as page:
        yield loaded(page, SOURCE)


READ = """({ sizes, weights, ids }) => {
  const net = new m.GPT(sizes, Float32Array.from(weights));
  ids.slice(0, 4).reverse().forEach((id) => net.read(id)); // what was cut is forgotten
  net.cut(0);
  return ids.map((id) => Array.from(net.read(id)));
}"""


def logits_apart(run, model, ids):
    """Largest difference of the browser's logits from Python's, relative to the largest logit."""
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    got = torch.tensor(run(READ, {"sizes": sizes, "weights": weights_of(model).tolist(), "ids": ids}))
    with torch.no_grad():
        wanted = model(torch.tensor([ids]))[0]
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


def test_the_networks_logits_are_pythons(modules):
    """To 1e-5 of the largest logit: at every place of a full block, for a small GPT and the shipped one."""
    assert logits_apart(modules, small_gpt(), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]) < 1e-5
    ids = torch.randint(68, (128,), generator=torch.Generator().manual_seed(0)).tolist()
    assert logits_apart(modules, pretrained("shakespeare"), ids) < 1e-5


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Math.sqrt(size)", "size"),
        ("Math.max(0, wide[i]) ** 2", "Math.max(0, wide[i])"),
        ("+ one[2 * j + 1] * cos", "- one[2 * j + 1] * cos"),
        ("10000 ** (-2 * j", "10000 ** (-j"),
        ("times(this.head, norm(x), this.V)", "times(this.head, x, this.V)"),
        ("t <= position; t++) sum", "t < position; t++) sum"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    assert SOURCE.count(right) == 1
    with browser.new_page() as page:
        # NaN is caught too
        assert not logits_apart(loaded(page, SOURCE.replace(right, wrong)), small_gpt(), [3, 1, 4, 1, 5, 9]) < 1e-3


def test_min_p_and_penalty_are_pythons(modules, generator):
    for k, (T, p, m, theta) in enumerate(
        [(1, None, 0.1, 1.3), (2, None, 0.3, 1.0), (0.5, 0.9, 0.05, 2.0), (1, None, 1.0, 1.1)]
    ):
        logits, seen = 3 * torch.randn(40, generator=generator), torch.randint(40, (9,), generator=generator)
        body = """([l, seen, T, p, m_, theta]) => Array.from(
          m.filterLogits(m.penalise(Float32Array.from(l), seen, theta), T, null, p, m_), (x) => Math.max(x, -999))"""
        got = torch.tensor(modules(body, [logits.tolist(), seen.tolist(), T, p, m, theta]))
        wanted = filter_logits(penalise(logits[None], seen[None], theta), T, None, p, m)[0]
        torch.testing.assert_close(
            got, wanted.masked_fill(wanted.isinf(), -999.0), msg=lambda text, k=k: f"case {k}: {text}"
        )


WRITE = """({ sizes, weights, prompt, settings }) => {
  const net = () => new m.GPT(sizes, Float32Array.from(weights)), kept = new m.Writer(net());
  const run = (writer, how) => {
    writer.begin(prompt, how, 40);
    while (!writer.done) writer.step();
    return writer.made.map((x) => x.id);
  };
  return settings.map((how) => [run(kept, how), run(new m.Writer(net()), how)]);
}"""


def test_what_is_kept_changes_nothing(modules):
    """A writer that keeps its choices and its cache writes what a fresh one writes; 40 letters in blocks of 12."""
    model = small_gpt()
    off = {"temperature": 1, "topK": None, "topP": None, "minP": None, "penalty": 1, "seed": 0}
    changes = [
        {},
        {"temperature": 0.95},
        {"temperature": 0},
        {"topP": 0.9},
        {"topP": 0.89},
        {"penalty": 1.2},
        {"seed": 4},
        {},
    ]
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    asked = {
        "sizes": sizes,
        "weights": weights_of(model).tolist(),
        "prompt": [3, 1],
        "settings": [off | one for one in changes],
    }
    texts = modules(WRITE, asked)
    assert all(kept == fresh for kept, fresh in texts)
    assert len({tuple(fresh) for _, fresh in texts}) >= 5
    greedy = torch.cat(list(generate(model, torch.tensor([[3, 1]]), 40, temperature=0))).tolist()
    assert texts[2][1] == greedy


def test_the_measures_are_pythons(modules):
    texts = [
        "to be or not to be, that is the question, to be or not to be",
        "aaaaaaaaaaaa",
        "",
        "There there THERE thare there x",
    ]
    words = {"there", "that", "question"}
    body = "([texts, words]) => texts.map((t) => [m.repeated(t, 8), m.knownWords(t, new Set(words))])"
    for text, (again, known) in zip(texts, modules(body, [texts, sorted(words)]), strict=True):
        assert again == pytest.approx(repeated(text))
        assert known == pytest.approx(known_words(text, words))
    assert playground.STRETCH == 8
