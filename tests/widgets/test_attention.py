"""The attention explorer without a browser: what it computes, what it sends, what it draws, what it refuses."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.gpt import GPT, GPTConfig
from aigc_lessons.models.heads import look, switched_off
from aigc_lessons.widgets.attention import AttentionExplorer, Break, run, show_glance, show_weights
from aigc_lessons.widgets.playground import weights_of

TOKENIZER = CharTokenizer("\n abcdefgh")


def made(style="modern", V=10, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT(GPTConfig(V, 32, 2, 3, 24, style=style)).eval()
        for p in model.parameters():
            p.data.normal_(std=0.4)
    return model


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture
def ids(generator):
    return torch.randint(10, (12,), generator=generator)


def explorer(model, **settings):
    return AttentionExplorer({"small": model}, TOKENIZER, {"one": "abc ab", "two": "h\ng"}, **settings)


@torch.no_grad()
def test_unbroken_it_is_the_network(model, ids):
    weights, logits = run(model, ids)
    torch.testing.assert_close(logits, model(ids[None])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights, look(model, ids[None]).weights[:, 0], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_heads_off_are_heads_off(model, ids):
    with switched_off(model, [(0, 2), (1, 0)]):
        wanted = model(ids[None])[0]
    torch.testing.assert_close(run(model, ids, Break(off=((0, 2), (1, 0))))[1], wanted, rtol=1e-4, atol=1e-5)
    assert (run(model, ids)[1] - wanted).abs().max() > 0.1


def test_each_break_does_what_it_says(model, ids):
    ahead, _ = run(model, ids, Break(ahead=True))
    assert (ahead > 0).all()
    even, _ = run(model, ids, Break(sharpness=1e-6))
    torch.testing.assert_close(even[0, 0, 4, :5], torch.full((5,), 0.2))
    hard, _ = run(model, ids, Break(sharpness=1000.0))
    assert (hard.amax(-1) > 0.5 - 1e-6).all()
    order = torch.tensor([2, 0, 1, *range(3, 12)])
    nowhere = Break(places=False)
    torch.testing.assert_close(
        run(model, ids, nowhere)[0][0, :, 11], run(model, ids[order], nowhere)[0][0, :, 11][:, order.argsort()]
    )


def test_the_widget_sends_what_python_has(model):
    shown = explorer(model)
    sent = shown.given["networks"]["small"]
    assert np.array_equal(np.frombuffer(sent["weights"], "<f4"), weights_of(model).numpy())
    assert sent["sizes"]["n_head"] == 3
    assert shown.given["texts"] == list("\n abcdefgh")
    assert (shown.network, shown.text, shown.place, shown.off) == ("small", "abc ab", 5, [])
    assert shown.given["longest"] == 32, "no longer than the block"
    assert "small" in repr(shown)


def test_bad_settings_are_refused(model):
    shown = explorer(model)
    with pytest.raises(Exception, match="network must be one of small, got 'large'"):
        shown.network = "large"
    with pytest.raises(Exception, match=r"layer must lie in 0\.\.1, got 2"):
        shown.layer = 2
    with pytest.raises(Exception, match=r"head must lie in 0\.\.2, got 3"):
        shown.head = 3
    with pytest.raises(Exception, match=r"sharpness must lie in 0\.1\.\.10, got 20"):
        shown.sharpness = 20
    for heads in (["2.0"], ["0.3"], ["x"], ["1"]):
        with pytest.raises(Exception, match=rf"no head is called '{heads[0]}'.*0\.0 to 1\.2"):
            shown.off = heads
    with pytest.raises(ValueError, match="small has 11 tokens and the tokenizer 10"):
        explorer(made(V=11))
    with pytest.raises(ValueError, match="'modern' style only, got 'gpt2'"):
        explorer(made("gpt2"))
    with pytest.raises(ValueError, match="'modern' style only, got 'gpt2'"):
        run(made("gpt2"), torch.tensor([1]))
    with pytest.raises(ValueError, match="an example has 1 to 32 characters, 'long' has 33"):
        AttentionExplorer({"small": model}, TOKENIZER, {"long": "a" * 33})
    with pytest.raises(ValueError, match="at least one network and one example, got 0 and 0"):
        AttentionExplorer({}, TOKENIZER, {})


def test_the_figures_show_the_weights(model, ids):
    weights, _ = run(model, ids)
    figure, (left, right) = plt.subplots(1, 2)
    text = TOKENIZER.decode(ids.tolist())
    show_weights(left, weights[0, 1], text)
    assert np.allclose(left.images[0].get_array(), weights[0, 1].sqrt())
    show_glance(right, weights[0, 1, 7], text, 7)
    assert np.allclose([bar.get_height() for bar in right.patches], weights[0, 1, 7])
    plt.close(figure)
