"""Speculative decoding: the joint distribution of what it writes, against the target's own and a faulty version's."""

import pytest
import torch
from scipy.stats import chi2, chisquare

from aigc_lessons.language import speculative
from aigc_lessons.language.generation import generate
from aigc_lessons.language.speculative import probabilities, residual, speculate, verify
from aigc_lessons.models.gpt import GPT, GPTConfig

V, N = 6, 20_000  # 36 pairs of tokens; the least likely is expected more than 25 times


def table(seed, spread=1.0):
    """Logits of the next token after each token."""
    return spread * torch.randn(V, V, generator=torch.Generator().manual_seed(seed))


LARGE, SMALL = table(1), table(2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Nothing here is large enough for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def two_tokens(large, small, n, generator):
    """Two tokens after token 0, n times: a round with two guesses; a row left with one token gets its second from p."""
    first = torch.zeros(n, dtype=torch.long)
    guesses, q = [], []
    last = first
    for _ in range(2):
        q.append(small[last].softmax(-1))
        last = torch.multinomial(q[-1], 1, generator=generator)[:, 0]
        guesses.append(last)
    guesses = torch.stack(guesses, 1)
    p = large[torch.cat([first[:, None], guesses], 1)].softmax(-1)
    accepted, tokens = verify(p, torch.stack(q, 1), guesses, generator)
    later = torch.multinomial(large[tokens[:, 0]].softmax(-1), 1, generator=generator)[:, 0]
    return tokens[:, 0], torch.where(accepted == 0, later, tokens[:, 1]), accepted


def p_value(first, second, large=LARGE):
    """Of Pearson's chi-square test that the pairs come from the target."""
    p = large[0].double().softmax(-1)[:, None] * large.double().softmax(-1)
    assert N * p.min() > 5
    return chisquare(torch.bincount(V * first + second, minlength=V * V).numpy(), (len(first) * p).flatten().numpy()).pvalue


def test_two_tokens_have_the_targets_joint_distribution(generator):
    first, second, accepted = two_tokens(LARGE, SMALL, N, generator)
    assert accepted.unique().tolist() == [0, 1, 2]
    assert p_value(first, second) > 0.001


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p, q: p,  # no residual: after a refusal, from the target itself
        lambda p, q: (q - p).clamp(min=1e-9) / (q - p).clamp(min=1e-9).sum(-1, keepdim=True),  # the other way round
        lambda p, q: (p - q).abs() / (p - q).abs().sum(-1, keepdim=True),
    ],
    ids=["p", "max(0, q - p)", "|p - q|"],
)
def test_without_the_right_residual_the_same_test_rejects(monkeypatch, wrong, generator):
    monkeypatch.setattr(speculative, "residual", wrong)
    first, second, _ = two_tokens(LARGE, SMALL, N, generator)
    assert p_value(first, second) < 1e-6


def test_accepting_everything_is_rejected(monkeypatch, generator):
    monkeypatch.setattr(torch, "rand", lambda *shape, **how: torch.zeros(shape))
    first, second, accepted = two_tokens(LARGE, SMALL, N, generator)
    assert (accepted == 2).all()
    assert p_value(first, second) < 1e-6


class Markov:
    """The next token depends on the last alone; counts its passes."""

    def __init__(self, logits):
        self.logits, self.passes = logits, 0

    def __call__(self, ids):
        self.passes += 1
        return self.logits[ids]


def test_the_whole_loop_moves_as_the_target_does(generator):
    """6,000 moves from token to token, written by `speculate` in pairs of rows, against each row of the target's table."""
    start, rows = torch.zeros(2, 1, dtype=torch.long), []
    for _ in range(150):
        rounds = speculate(LARGE.__getitem__, SMALL.__getitem__, start, 20, k=3, generator=generator)
        rows.append(torch.cat([start, *(r.tokens for r in rounds)], 1))
    rows = torch.cat(rows)
    assert rows.shape == (300, 21)
    moves = torch.bincount((V * rows[:, :-1] + rows[:, 1:]).flatten(), minlength=V * V).view(V, V).double()
    expected = moves.sum(1, keepdim=True) * LARGE.double().softmax(-1)
    assert ((moves - expected).square() / expected).sum() < chi2(V * (V - 1)).ppf(0.999)
    wrong = moves.sum(1, keepdim=True) * (LARGE + 0.2 * SMALL).double().softmax(-1)  # not far from the target
    assert ((moves - wrong).square() / wrong).sum() > chi2(V * (V - 1)).ppf(0.999)


def test_the_acceptance_rate_is_one_minus_the_distance(generator):
    """A share of n draws: within 4.5 standard errors of sum min(p, q) = 1 - TV(p, q)."""
    p, q = LARGE[0].softmax(-1), SMALL[0].softmax(-1)
    guesses = torch.multinomial(q.expand(N, V), 1, generator=generator)
    accepted, _ = verify(p.expand(N, 2, V), q.expand(N, 1, V), guesses, generator)
    wanted = torch.minimum(p, q).sum()
    assert wanted == pytest.approx(1 - (p - q).abs().sum().item() / 2, abs=1e-6)
    assert (accepted.float().mean() - wanted).abs() < 4.5 * (wanted * (1 - wanted) / N).sqrt()


def test_tokens_for_each_pass_follow_the_formula(generator):
    """Where every place has the same distance: (1 - a^(k+1)) / (1 - a), within 4.5 standard errors of about 800 rounds."""
    large, small = LARGE[:1].expand(V, V), SMALL[:1].expand(V, V)
    a, k = torch.minimum(large[0].softmax(-1), small[0].softmax(-1)).sum().item(), 3
    target, start = Markov(large), torch.zeros(1, 1, dtype=torch.long)
    rounds = list(speculate(target, Markov(small), start, 1500, k=k, generator=generator))
    counts = torch.tensor([r.tokens.shape[1] for r in rounds[:-2]]).double()
    assert target.passes == len(rounds)
    assert sum(r.tokens.shape[1] for r in rounds) == 1500
    assert abs(counts.mean() - (1 - a ** (k + 1)) / (1 - a)) < 4.5 * counts.std() / len(counts) ** 0.5


def gpt(seed, block_size=16, layers=2, style="modern"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GPT(GPTConfig(11, block_size, layers, 2, 16, style=style)).eval()
        for weight in network.parameters():
            weight.data.normal_(std=0.7)
    return network


@pytest.mark.parametrize("style", ["gpt2", "modern"])
@pytest.mark.parametrize("rows", [1, 3])
def test_greedy_speculation_writes_what_greedy_writing_writes(style, rows):
    """Past the block too, where the older half is forgotten, with caches and without."""
    target, draft, ids = gpt(1, style=style), gpt(2), torch.arange(1, 1 + 2 * rows).view(rows, 2)
    wanted = torch.stack(list(generate(target, ids, 40, temperature=0)), 1)
    for small in (draft, target, lambda ids: draft(ids)):
        got = torch.cat([r.tokens for r in speculate(target, small, ids, 40, k=3, temperature=0)], 1)
        assert torch.equal(got, wanted)


def test_a_draft_that_is_the_target_is_always_right(generator):
    target = gpt(1)
    rounds = list(speculate(target, target, torch.tensor([[3]]), 12, k=3, generator=generator))
    assert [r.tokens.shape[1] for r in rounds] == [4, 4, 4]
    assert all((r.accepted == r.proposed).all() for r in rounds)


def test_each_token_is_read_once(generator):
    """The target's cache is cut back after a refusal: it reads the guesses and one token more."""
    target, read = gpt(1, block_size=64), []

    class Spy:
        config, new_cache = target.config, target.new_cache

        def __call__(self, ids, cache):
            read.append(ids.shape[1])
            return target(ids, cache)

    rounds = list(speculate(Spy(), gpt(2, 64), torch.tensor([[3, 4, 5]]), 40, k=3, generator=generator))
    assert read == [3 + rounds[0].proposed] + [r.proposed + 1 for r in rounds[1:]]


def test_filters_bind_both(generator):
    """With top-k 1 both are greedy; whatever the draft proposes, only the target's likeliest token is written."""
    target, ids = gpt(1), torch.tensor([[3]])
    got = torch.cat([r.tokens for r in speculate(target, gpt(2), ids, 20, top_k=1, generator=generator)], 1)
    assert torch.equal(got, torch.stack(list(generate(target, ids, 20, temperature=0)), 1))
    logits = torch.tensor([[[1.0, 3.0, 3.0]]])
    assert probabilities(logits, 0).tolist() == [[[0, 1, 0]]]
    assert probabilities(logits, top_k=1).tolist() == [[[0, 0.5, 0.5]]]


def test_the_residual_of_equals_is_p():
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    q = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    assert residual(p, q).tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"k": -1}, "k must be 0 guesses or more, got -1"),
        ({"generator": None}, "generator="),
        ({"min_p": 2.0}, "min_p"),
        ({"ids": torch.zeros(1, 0, dtype=torch.long)}, "prompt is empty"),
        ({"draft": gpt(2, block_size=8)}, "block_size is 8, shorter than the target's 16"),
    ],
)
def test_bad_input_is_refused_at_once(how, says, generator):
    good = {"ids": torch.tensor([[1]]), "max_new_tokens": 3, "draft": gpt(2), "generator": generator}
    with pytest.raises(ValueError, match=says):
        speculate(gpt(1), **{**good, **how})
