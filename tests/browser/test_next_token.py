"""The next-token explorer in JupyterLab, in a browser: by keyboard and by mouse; and its mathematics against Python's."""

from pathlib import Path

import pytest
import torch
from browser.harness import latencies, loaded, shot

from aigc_lessons.language.generation import filter_logits
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.widgets import next_token
from aigc_lessons.widgets.next_token import after_controls, next_logits

SCRIPT = Path(next_token.__file__).with_name("sampling.js")
FIRST_BAR = "document.querySelector('.al-next .al-track .al-after').style.width"
LETTERS = "\n !,.abcdefghijklmnopqrstuvwxyz"
PROMPT = "to be, or not\nto be"
SETUP = f"""\
import torch
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.widgets.next_token import NextToken

torch.manual_seed(4)
model = GPT(GPTConfig(vocab_size={len(LETTERS)}, block_size=24, n_layer=2, n_head=2, n_embd=32, style="gpt2")).eval()
for p in model.parameters():
    p.data.normal_(std=0.4)
explorer = NextToken(model, CharTokenizer({LETTERS!r}), {PROMPT!r})
explorer"""


@pytest.fixture(scope="module")
def model():
    """The same as in the notebook."""
    names = {}
    with torch.random.fork_rng():
        exec(SETUP, names)
    return names["model"]


@pytest.fixture
def page(lesson):
    """Back at the prompt, all controls off."""
    page = lesson.page
    restart = page.locator(".al-next button", has_text="Start over")
    if restart.is_enabled():
        restart.click()
        page.wait_for_function("document.querySelector('.al-next mark').textContent === ''")
    for control, keys in {"temperature": ["Home", *["ArrowRight"] * 20], "top_k": ["End"], "top_p": ["End"]}.items():
        move(page, control, *keys)
    page.locator(".al-next").scroll_into_view_if_needed()
    return page


def move(page, control, *keys):
    page.locator(f'[data-control="{control}"]').focus()
    for key in keys:
        page.keyboard.press(key)


def bar(page, rank):
    return page.locator(".al-bars button").nth(rank)


def column(page, name):
    return page.locator(f".al-bars .{name}").all_text_contents()


def written(page):
    return page.locator(".al-next mark").text_content()


def wait_for(page, n):
    page.wait_for_function(f"document.querySelector('.al-next mark').textContent.length === {n}")


def likeliest(model, text):
    ids = CharTokenizer(LETTERS).encode(text)
    logits = next_logits(model, ids)
    return logits, logits.sort(descending=True, stable=True).indices.tolist()


def test_at_first_the_bars_are_the_models(page, model):
    logits, order = likeliest(model, PROMPT)
    wanted = [next_token.percent(p) for p in logits.softmax(-1)[order[:20]].tolist()]
    numbers = column(page, "al-number")
    assert numbers[::2] == numbers[1::2] == wanted
    assert page.locator(".al-text span").text_content() == PROMPT
    assert page.locator(".al-stats").text_content().startswith("31 of 31 tokens remain · entropy")
    assert page.locator(".al-context").text_content() == "The model sees all 19 tokens."
    assert page.locator(".al-others").text_content().startswith("11 others, 11 of them in")
    shot(page, "next_1_off")


def test_the_controls_by_keyboard(page, model):
    logits, order = likeliest(model, PROMPT)
    move(page, "temperature", *["ArrowRight"] * 4)
    move(page, "top_k", *["ArrowLeft"] * 7)
    move(page, "top_p", *["ArrowLeft"] * 10)
    assert [b.text_content() for b in page.locator(".al-controls b").all()] == ["1.20", "9", "0.90"]
    p = after_controls(logits, 1.2, 9, 0.9)
    wanted = [next_token.percent(x) if x else "out" for x in p[order[:20]].tolist()]
    assert column(page, "al-number")[1::2] == wanted
    assert wanted.count("out") > 11
    assert page.locator(".al-bars .al-out").count() == wanted.count("out")
    assert f"→ {next_token.entropy(p):.2f} nats" in page.locator(".al-stats").text_content()
    assert "out, before" in bar(page, 19).get_attribute("aria-label")
    shot(page, "next_2_filtered")
    page.wait_for_timeout(600)  # all three values have gone to the kernel by now
    assert [b.text_content() for b in page.locator(".al-controls b").all()] == ["1.20", "9", "0.90"]
    assert column(page, "al-number")[1::2] == wanted
    move(page, "temperature", "Home")
    assert column(page, "al-number")[1::2] == ["100.00 %", *["out"] * 19]
    assert page.locator('[data-control="temperature"]').get_attribute("aria-valuetext") == "0, greedy"
    assert "1 of 31 tokens remains" in page.locator(".al-stats").text_content()
    shot(page, "next_3_greedy")


def test_the_controls_by_mouse(page):
    slider = page.locator('[data-control="top_p"]')
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert 0.45 <= float(page.locator(".al-controls b").nth(2).text_content()) <= 0.55
    assert page.locator(".al-bars .al-out").count() > 0


def test_a_click_appends_and_undo_removes(page, model):
    third = LETTERS[likeliest(model, PROMPT)[1][2]]
    bar(page, 2).click()
    wait_for(page, 1)
    assert written(page) == third
    logits, order = likeliest(model, PROMPT + third)
    assert column(page, "al-number")[::2] == [next_token.percent(p) for p in logits.softmax(-1)[order[:20]].tolist()]
    assert column(page, "al-token") == [next_token.SIGNS.get(LETTERS[i], LETTERS[i]) for i in order[:20]]
    page.locator(".al-next button", has_text="Undo").click()
    wait_for(page, 0)
    assert page.locator(".al-next button", has_text="Undo").is_disabled()


def test_enter_on_the_first_bar_writes_greedily_past_the_block(page, model):
    bar(page, 0).focus()
    text = PROMPT
    for n in range(1, 9):
        page.keyboard.press("Enter")
        wait_for(page, n)
        text += LETTERS[likeliest(model, text)[1][0]]
    assert PROMPT + written(page) == text
    assert page.locator(".al-context").text_content() == "The model sees the last 24 of 27 tokens."
    shot(page, "next_4_greedy_text")


def test_the_arrow_keys_walk_through_the_bars(page):
    bar(page, 0).focus()
    for key, rank in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 19), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert bar(page, rank).evaluate("e => e === document.activeElement")
    assert page.locator('.al-bars button[tabindex="0"]').count() == 1


def drawn(page, n):
    for k in range(1, n + 1):
        page.locator(".al-next button", has_text="Draw").click()
        wait_for(page, k)
    return written(page)


def test_draws_can_be_repeated(page):
    first = drawn(page, 6)
    assert page.locator(".al-says").text_content().startswith("Draw 6: ")
    shot(page, "next_5_drawn")
    page.locator(".al-next button", has_text="Start over").click()
    wait_for(page, 0)
    assert drawn(page, 6) == first
    page.locator(".al-next button", has_text="Undo").click()
    wait_for(page, 5)
    page.locator(".al-buttons input").fill("7")
    page.keyboard.press("Tab")
    page.locator(".al-next button", has_text="Start over").click()
    wait_for(page, 0)
    other = drawn(page, 6)
    page.locator(".al-buttons input").fill("0")
    page.keyboard.press("Tab")
    assert other != first


def test_every_press_repaints(page):
    """How fast is the benchmark's business."""
    assert len(latencies(page, '[data-control="temperature"]', FIRST_BAR, presses=10)) == 10


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []
    assert lesson.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


# ---------------------------------------------------------------------- the script's mathematics, without JupyterLab
@pytest.fixture(scope="module")
def script(browser):
    with browser.new_page() as page:
        yield loaded(page, SCRIPT.read_text())


PROBABILITIES = (
    "(cases) => cases.map(([l, ...how]) => { const f = m.filterLogits(Float32Array.from(l), ...how);"
    " return [Array.from(m.softmax(f)), Array.from(f, (x) => x > -Infinity)]; })"
)


def in_browser(script, cases):
    found = script(PROBABILITIES, [[logits.tolist(), *how] for logits, *how in cases])
    return [(torch.tensor(p, dtype=torch.float32), torch.tensor(kept)) for p, kept in found]


def test_probabilities_are_those_of_filter_logits(script, generator):
    """300 random settings; where a sum comes within 1e-6 of p, the last digit of exp decides and the case is not judged."""
    cases = []
    for _ in range(300):
        V, spread, temperature, k, p = (torch.rand(5, generator=generator)).tolist()
        logits = torch.randn(2 + int(400 * V), generator=generator) * 8 * spread
        cases.append((logits, 0.05 + 2 * temperature, 1 + int(len(logits) * k) if k < 0.8 else None, p if p < 0.8 else None))
    judged = 0
    for (logits, temperature, k, p), (got, kept) in zip(cases, in_browser(script, cases), strict=True):
        ranked = filter_logits(logits[None], temperature, k)[0].double().softmax(-1).sort(descending=True).values
        if p is not None and ((ranked.cumsum(0) - p).abs() < 1e-6).any():
            continue
        judged += 1
        wanted = filter_logits(logits[None], temperature, k, p)[0]
        assert torch.equal(kept, wanted.isfinite())
        torch.testing.assert_close(got, after_controls(logits, temperature, k, p), rtol=2e-6, atol=1e-9)
    assert judged > 280


def edge_cases():
    P = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
    uniform, ties = torch.zeros(65), torch.tensor([1.0, 0.0, 0.0, -1.0, 0.0])
    close = torch.tensor([3.0000002, 3.0, 1.0])  # apart in float32, together once divided by 0.7
    return {
        "temperature 0 takes the first of equals": (torch.tensor([1.0, 2.0, 2.0]), 0, None, None),
        "temperature 0 passes all filters": (P, 0, 3, 0.2),
        "equals of the k-th stay": (ties, 1.0, 2, None),
        "k is 1": (P, 1.0, 1, None),
        "k is V": (P, 1.0, 5, None),
        "k is more than V": (P, 1.0, 9, None),
        "p is reached exactly": (P, 1.0, None, 0.5),
        "p is just not reached": (P, 1.0, None, 0.5000002),
        "p is reached exactly by equals": (uniform, 1.0, None, 0.2),
        "p in a hundred steps": (uniform, 0.7, None, 0.6),
        "p keeps at least one": (P, 1.0, None, 1e-9),
        "p is 1": (P, 1.0, None, 1.0),
        "p is of what k left": (P, 1.0, 3, 0.6),
        "of equals top-p keeps the first": (ties, 1.0, None, 0.6),
        "division makes equals": (close, 0.7, 1, None),
        "hot": (P, 100.0, None, 0.5),
        "cold: what rounds to 0 still remains": (P * 100, 0.05, None, None),
        "large logits": (torch.tensor([1e4, 9.999e3, -1e4]), 0.5, None, 0.9),
        "one token": (torch.tensor([3.0]), 1.0, 1, 0.5),
    }


def test_edge_cases(script):
    cases = edge_cases()
    for name, (got, kept) in zip(cases, in_browser(script, cases.values()), strict=True):
        logits, temperature, k, p = cases[name]
        wanted = after_controls(logits, temperature, k, p)
        torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
        if temperature:
            assert torch.equal(kept, filter_logits(logits[None], temperature, k, p)[0].isfinite()), name


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("l < smallest", "l <= smallest"),
        (">= limit", "> limit"),
        ("f32(mass) - p[i]", "f32(mass)"),
        ("l / T", "l * T"),
        ("|| i - j", "|| j - i"),
        ("f32(temperature)", "1"),
        ("const p = softmax(kept)", "const p = softmax(logits)"),
        ("(i === likeliest", "(logits[i] === logits[likeliest]"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    source = SCRIPT.read_text()
    assert source.count(right) == 1
    with browser.new_page() as page, pytest.raises(AssertionError):
        test_edge_cases(loaded(page, source.replace(right, wrong)))


def test_draws_follow_the_probabilities(script):
    """20,000 draws of one seed: each frequency within 4.5 standard errors, sqrt(p (1 - p) / n); none of probability 0."""
    n, p = 20_000, torch.tensor([0.0, 0.5, 0.2, 0.0, 0.25, 0.05, 0.0])
    body = "([p, n]) => Array.from({ length: n }, (_, k) => m.pick(Float32Array.from(p), m.uniform(3, k)))"
    seen = torch.bincount(torch.tensor(script(body, [p.tolist(), n])), minlength=7) / n
    assert ((seen - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt()).all()
    uniforms = torch.tensor(
        script("(n) => [0, 1, 2].map((s) => Array.from({ length: n }, (_, k) => m.uniform(s, k)))", 10_000)
    )
    assert (uniforms.corrcoef() - torch.eye(3)).abs().max() < 4.5 / 100
    assert torch.stack([uniforms[:, :-1].flatten(), uniforms[:, 1:].flatten()]).corrcoef()[0, 1].abs() < 4.5 / 173
    ends = "(p) => [m.pick(Float32Array.from(p), 0), m.pick(Float32Array.from(p), 1 - 2 ** -32)]"
    assert script(ends, p.tolist()) == [1, 5]
