"""Lesson 31 in JupyterLab, in a browser: the attention explorer by keyboard and by mouse; and its mathematics."""

import json
from pathlib import Path

import pytest
import torch
from browser.harness import latencies, loaded, shot, small_gpt

from aigc_lessons.models.heads import copyable
from aigc_lessons.training.checkpoints import pretrained
from aigc_lessons.widgets import attention
from aigc_lessons.widgets.attention import Break, run
from aigc_lessons.widgets.playground import weights_of

LESSON = "31_attention.ipynb"
COPYING = "1.2"  # the head of the copier that looks after earlier occurrences
SOURCE = Path(attention.__file__).with_name("attention.js").read_text(encoding="utf-8")


@pytest.fixture
def page(lesson):
    """The writer on its first line, as trained, the first head, the last place."""
    lesson.page.locator(".al-attn").scroll_into_view_if_needed()
    button(lesson.page, "as trained").click()
    button(lesson.page, "writer").click()
    button(lesson.page, "a line").click()
    return lesson.page


def button(page, name):
    return page.locator(".al-attn button", has_text=name).first


def drawn(page):
    return json.loads(page.evaluate("document.querySelector('.al-attn').dataset.drawn"))


def verdict(page):
    return page.locator(".al-attn .al-verdict").text_content()


def test_the_line_by_keyboard_and_mouse(page):
    before = drawn(page)
    assert (before["network"], before["head"]) == ("writer", "0.0")
    assert sum(before["weights"]) == pytest.approx(1)
    page.locator(".al-attn .al-strip").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    after = drawn(page)
    assert after["place"] == before["place"] - 2
    assert after["weights"][-2:] == [0, 0], "no look ahead"
    assert page.locator(".jp-Notebook .jp-mod-selected").count() <= 1, "JupyterLab did not take the keys"
    page.locator(".al-attn .al-cell").nth(9).hover()
    assert drawn(page)["place"] == 9
    assert "at 9 looks at" in page.locator(".al-attn .al-looks").text_content()
    page.locator(".al-attn .al-strip").focus()
    page.keyboard.press("Home")
    assert drawn(page)["weights"][0] == 1


def test_heads_by_keyboard_and_mouse(page):
    page.locator(".al-attn [data-head='1.2']").click()
    assert drawn(page)["head"] == "1.2"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert drawn(page)["head"] == "2.3"
    assert page.evaluate("document.activeElement.dataset.head") == "2.3"
    assert page.locator(".al-attn .al-head[aria-pressed='true']").count() == 1
    shot(page, "31_writer")


def test_a_head_switched_off_and_on_again(page):
    before = drawn(page)
    page.locator(".al-attn [data-head='1.2']").click()
    button(page, "switch head 1.2 off").click()
    after = drawn(page)
    assert after["nats"] != before["nats"]
    assert after["trained"] == before["nats"]
    assert "as trained" in verdict(page)
    assert "switched off" in page.locator(".al-attn [data-head='1.2']").get_attribute("aria-label")
    shot(page, "31_off")
    button(page, "switch head 1.2 on").click()
    assert drawn(page)["nats"] == pytest.approx(before["nats"])


def test_the_name_is_forgotten_without_the_copying_head(page):
    button(page, "copier").click()
    button(page, "a name twice").click()
    whole = drawn(page)["nats"][-7:-1]
    page.locator(f".al-attn [data-head='{COPYING}']").click()
    shot(page, "31_copier")
    button(page, "switch head").click()
    assert sum(drawn(page)["nats"][-7:-1]) > sum(whole) + 3
    assert "what copying could tell" in verdict(page)
    shot(page, "31_copier_off")


def test_scores_mask_and_places(page):
    whole = drawn(page)
    sharp = page.locator(".al-attn [data-control='sharpness']")
    sharp.focus()
    page.keyboard.press("Home")
    assert sharp.get_attribute("aria-valuetext") == "0.1"
    assert max(drawn(page)["weights"]) < max(whole["weights"])
    button(page, "as trained").click()
    page.locator(".al-attn [data-control='ahead']").check()
    assert "sees the answers" in verdict(page)
    page.locator(".al-attn [data-control='ahead']").uncheck()
    page.locator(".al-attn [data-control='places']").uncheck()
    assert drawn(page)["weights"] != whole["weights"]
    button(page, "as trained").click()
    assert drawn(page)["nats"] == pytest.approx(whole["nats"])


def test_any_text_can_be_typed(page):
    text = page.locator(".al-attn textarea")
    text.fill("To 7 be")
    assert page.locator(".al-attn .al-cell:not([hidden])").count() == 6
    assert "7" in page.locator(".al-attn .al-strange").text_content()
    text.fill("")
    assert "nothing to predict" in verdict(page)


def test_every_press_moves(page):
    sign = "document.querySelector('.al-attn').dataset.drawn"
    assert len(latencies(page, ".al-attn [data-control='sharpness']", sign, presses=4)) == 4


def test_no_errors_and_nothing_from_outside(lesson):
    assert lesson.errors == []
    assert lesson.outside == []


# ------------------------------------------------------------------- the script's mathematics, without JupyterLab


@pytest.fixture(scope="module")
def module(browser):
    with browser.new_page() as page:
        yield loaded(page, SOURCE)


BREAKS = [Break(), Break(off=((1, 2),)), Break(off=((0, 1), (1, 0))), Break(sharpness=3.0), Break(ahead=True),
          Break(places=False), Break(off=((1, 2),)), Break()]  # fmt: skip
RUN = """({ sizes, weights, ids, hows }) => {
  const net = new m.Looker(sizes, Float32Array.from(weights));
  net.run([...ids].reverse(), hows[0]); // what was kept of another text is forgotten
  return hows.map((how) => {
    const logits = Array.from(net.run(ids, how));
    return [logits, net.blocks.map((b) => b.weights.map((w) => Array.from(w))), net.nats().slice(1)];
  });
}"""


def apart(call, model, ids, hows=BREAKS):
    """Largest difference of the browser's logits, weights and surprise from Python's, relative to the largest entry."""
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")}
    told = [
        {"off": [f"{a}.{b}" for a, b in how.off], "sharpness": how.sharpness, "ahead": how.ahead, "places": how.places}
        for how in hows
    ]
    given = {"sizes": sizes, "weights": weights_of(model).tolist(), "ids": ids, "hows": told}
    worst = 0.0
    for how, got in zip(hows, call(RUN, given), strict=True):
        weights, logits = run(model, torch.tensor(ids), how)
        nats = -logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None])[:, 0]
        for mine, wanted in zip(got, (logits, weights, nats), strict=True):
            gap = (torch.tensor(mine).reshape(wanted.shape) - wanted).abs().max() / wanted.abs().max()
            worst = max(worst, gap.item()) if gap.isfinite() else float("inf")
    return worst


def test_the_script_computes_what_python_does(module):
    """To 2e-5 of the largest entry; breaks one after the other, so that what is kept between them is tested too."""
    assert apart(module, small_gpt(16), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9]) < 2e-5
    ids = torch.randint(68, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    assert apart(module, pretrained("copier"), ids, BREAKS[:2]) < 2e-5


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("/ Math.sqrt(size)", "/ size"),
        ("+ one[i + 1] * cos]", "- one[i + 1] * cos]"),
        ("const last = ahead ? T - 1 : t", "const last = t"),
        ("block.manner !== manner", "false"),
        ("block.off !== off", "false"),
        ("2 * C + h * size + i];", "C + h * size + i];"),
    ],
)
def test_planted_mistakes_are_caught(browser, right, wrong):
    assert SOURCE.count(right) == 1
    with browser.new_page() as page:
        assert apart(loaded(page, SOURCE.replace(right, wrong)), small_gpt(16), [3, 1, 4, 1, 5, 9, 2, 6]) > 1e-3


def test_what_copying_could_tell_is_pythons(module, generator):
    ids = torch.randint(5, (20,), generator=generator)
    got = module("(ids) => m.copyable(ids)", ids.tolist())
    assert got[0] is False
    assert got[1:] == copyable(ids[None])[0].tolist()
