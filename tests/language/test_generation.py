import pytest
import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor

from aigc_lessons.language.generation import filter_logits, generate, penalise
from aigc_lessons.models.gpt import GPT, GPTConfig

P = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]])


def kept(**how):
    return (filter_logits(P.log(), **how).softmax(-1)[0] > 0).tolist()


def test_top_k_and_top_p_keep_the_likeliest():
    assert kept(top_k=2) == [True, True, False, False, False]
    assert kept(top_k=9) == [True] * 5
    assert kept(top_p=0.5) == [True, False, False, False, False]
    assert kept(top_p=0.51) == [True, True, False, False, False]
    assert kept(top_p=0.84) == [True, True, True, False, False]
    assert kept(top_p=1.0) == [True] * 5
    assert kept(top_p=1e-9) == [True, False, False, False, False]
    assert kept(top_k=3, top_p=0.6) == [True, True, False, False, False]  # of what top-k left: 0.59, 0.24, 0.18
    shuffled = P[:, [3, 0, 4, 1, 2]].log()
    assert (filter_logits(shuffled, top_p=0.7).isfinite()[0]).tolist() == [False, True, False, True, False]


def test_equals_of_the_kth_stay():
    logits = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
    assert filter_logits(logits, top_k=2).isfinite()[0].tolist() == [True, True, True, False]


def test_temperature_divides_logits():
    got = filter_logits(P.log(), temperature=0.5).softmax(-1)
    assert torch.allclose(got, P.square() / P.square().sum(), atol=1e-6)


def test_frequencies_follow_the_filtered_probabilities(generator):
    """20,000 draws: each frequency within 4.5 standard errors, 4.5 * sqrt(p (1 - p) / n)."""
    n = 20_000
    [drawn] = generate(
        lambda ids: P.log()[:, None].expand(len(ids), 1, 5), torch.zeros(n, 1, dtype=torch.long), 1,
        temperature=0.8, top_k=4, top_p=0.9, generator=generator,
    )  # fmt: skip
    p = filter_logits(P.log(), 0.8, 4, 0.9).softmax(-1)[0]
    off = (torch.bincount(drawn, minlength=5) / n - p).abs()
    assert (off <= 4.5 * (p * (1 - p) / n).sqrt()).all()
    assert ((torch.bincount(drawn, minlength=5) / n - P[0]).abs() > 4.5 * (P[0] * (1 - P[0]) / n).sqrt()).any()


def model(style, block_size=16):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = GPT(GPTConfig(11, block_size, 2, 2, 16, style=style)).eval()
        for p in network.parameters():
            p.data.normal_(std=1.0)
    return network


def written(network, prompt, n, **how):
    return torch.stack(list(generate(network, prompt, n, **how)), 1)


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_the_cache_changes_no_token_even_past_the_block(style, temperature):
    network, prompt = model(style), torch.tensor([[1, 2, 3], [4, 5, 6]])
    with_cache, without = (
        written(network, prompt, 60, temperature=temperature, generator=torch.Generator().manual_seed(3), use_cache=cache)
        for cache in (True, False)
    )
    assert torch.equal(with_cache, without)
    assert with_cache.shape == (2, 60)
    assert temperature == 0 or len(with_cache.unique()) > 2  # greedy writing of random weights soon repeats itself


def test_greedy_is_the_argmax_one_by_one():
    network, ids = model("gpt2"), torch.tensor([[1, 2, 3]])
    wanted = ids
    for _ in range(10):
        wanted = torch.cat([wanted, network(wanted)[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(written(network, ids, 10, temperature=0), wanted[:, 3:])


def test_a_prompt_longer_than_the_block_keeps_its_end():
    network = model("modern")
    long = torch.arange(40)[None] % 11
    assert torch.equal(written(network, long, 1, temperature=0), written(network, long[:, -16:], 1, temperature=0))


def test_the_context_never_outgrows_the_block():
    lengths = []

    class Spy:
        config = GPTConfig(11, 6, 1, 1, 2)

        def __call__(self, ids):
            lengths.append(ids.shape[1])
            return torch.zeros(*ids.shape, 11)

    list(generate(Spy(), torch.zeros(1, 2, dtype=torch.long), 12, temperature=0))
    assert lengths == [2, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 5]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must lie above 0"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1.5}, "min_p must lie in 0..1"),
        ({"penalty": 0.0}, "penalty must be above 0"),
        ({"temperature": -1}, "temperature must be 0"),
        ({"generator": None}, "generator="),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"ids": torch.zeros(1, 0, dtype=torch.long)}, "prompt is empty"),
    ],
)
def test_bad_input_is_refused_at_once(how, says, generator):
    good = {"ids": torch.tensor([[1]]), "max_new_tokens": 3, "temperature": 1.0, "generator": generator}
    with pytest.raises(ValueError, match=says):
        generate(model("modern"), **{**good, **how})
    with pytest.raises(ValueError, match="above 0 here"):
        filter_logits(P, temperature=0)


def test_min_p_keeps_what_is_near_the_likeliest(generator):
    """Against its definition on probabilities, after temperature, and after top-p, which changes no ratio."""
    logits = torch.randn(50, 40, generator=generator) * 3
    for T, top_p, m in [(1.0, None, 0.1), (2.0, None, 0.3), (0.7, 0.9, 0.05), (1.0, None, 1.0)]:
        p = filter_logits(logits, T, None, top_p).softmax(-1)
        kept = filter_logits(logits, T, None, top_p, m).isfinite()
        assert torch.equal(kept, p * (1 + 1e-6) >= m * p.amax(-1, keepdim=True))
        assert kept.any(1).all()
    assert torch.equal(filter_logits(logits, min_p=0.0), logits)


def test_the_penalty_makes_seen_tokens_less_likely_once(generator):
    logits, seen = torch.tensor([[2.0, -2.0, 1.0, -1.0]]), torch.tensor([[0, 1, 1, 1]])
    assert penalise(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0]]
    many, context = torch.randn(20, 9, generator=generator), torch.randint(9, (20, 5), generator=generator)
    down = penalise(many, context, 1.3) < many
    inside = torch.zeros_like(down).scatter(1, context, True)
    assert torch.equal(down, inside)
    assert torch.equal(penalise(many, context, 1.0), many)
    with pytest.raises(ValueError, match="above 0"):
        penalise(many, context, -1.0)


def test_the_penalty_agrees_with_transformers(generator):
    """And with their min-p: the same tokens kept, the same logits."""
    logits, seen = torch.randn(8, 30, generator=generator) * 3, torch.randint(30, (8, 12), generator=generator)
    theirs = RepetitionPenaltyLogitsProcessor(1.3)(seen, logits.clone())
    assert torch.allclose(penalise(logits, seen, 1.3), theirs)
    assert not torch.allclose(penalise(logits, seen, 1.4), theirs)
    theirs = MinPLogitsWarper(0.1)(seen, logits.clone())
    assert torch.equal(filter_logits(logits, min_p=0.1), theirs)


def test_generate_penalises_the_context_prompt_included():
    def model(ids):
        return torch.tensor([3.0, 2.9, 2.8, 0.1]).expand(*ids.shape, 4)

    got = written(model, torch.tensor([[0]]), 4, temperature=0, penalty=2.0)
    assert got.tolist() == [[1, 2, 0, 0]]  # 1.5, 1.45, 1.4: once all are seen, their order is the old one


def test_nothing_is_kept_for_gradients(generator):
    """Weights that learn must not make a text hold on to every step; and what is written can be learned from."""
    network = model("modern")
    assert all(weight.requires_grad for weight in network.parameters())
    tokens = written(network, torch.tensor([[1]]), 5, generator=generator)
    assert not tokens.is_inference()
    network(tokens).logsumexp(-1).sum().backward()
    assert network.embed.weight.grad.abs().sum() > 0
