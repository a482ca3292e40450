"""Answers: where they end, what they weigh, how they are drawn; the two losses for the loop on a model of three tokens."""

import copy

import pytest
import torch
from torch import nn

from aigc_lessons.language.preference import kl_estimates, token_kl
from aigc_lessons.language.rollout import (
    Grpo,
    Pairs,
    Rollout,
    answer_log_probs,
    answer_mask,
    chosen_objective,
    dpo_objective,
    roll_out,
    sequence_log_prob,
    weigh,
)
from aigc_lessons.training.loop import TrainConfig, train

STOP = 0


class Bigram(nn.Module):
    """Logits of the next token from the last one."""

    def __init__(self, V: int = 3):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(V, V))

    def forward(self, ids):
        return self.table[ids]


@pytest.fixture
def model(generator):
    bigram = Bigram()
    bigram.table.data = torch.randn(3, 3, generator=generator)
    return bigram


def test_an_answer_counts_up_to_its_first_stop():
    answers = torch.tensor([[1, 2, 0, 1, 0], [0, 0, 0, 0, 0], [1, 2, 1, 2, 1]])
    wanted = [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert answer_mask(answers, STOP).tolist() == [[bool(x) for x in row] for row in wanted]
    rollout = Rollout(torch.cat([torch.ones(3, 2, dtype=torch.long), answers], 1), answer_mask(answers, STOP))
    assert (rollout.start, rollout.ended(STOP).tolist()) == (2, [True, True, False])
    assert torch.equal(rollout.answers, answers)
    assert torch.equal(rollout.pick(torch.tensor([2])).ids, rollout.ids[2:])


def test_log_probabilities_of_answers_are_products_of_conditionals(model, generator):
    ids = torch.randint(3, (4, 6), generator=generator)
    log_p, p = answer_log_probs(model(ids), ids, 2), model.table.softmax(-1)
    wanted = torch.stack([torch.stack([p[row[t - 1], row[t]].log() for t in range(2, 6)]) for row in ids])
    assert torch.allclose(log_p, wanted)
    late = model(ids)[:, 2:].log_softmax(-1).gather(-1, ids[:, 2:, None])[..., 0]  # the logits of the token itself
    assert not torch.allclose(late, wanted)
    mask = torch.tensor([[True, True, False, False]]).expand(4, 4)
    assert torch.allclose(sequence_log_prob(log_p, mask), wanted[:, :2].sum(1))
    spoiled = torch.where(mask, log_p, torch.full_like(log_p, -torch.inf))
    assert torch.allclose(sequence_log_prob(spoiled, mask), wanted[:, :2].sum(1)), "0 times minus infinity is not 0"
    for start in (0, 6):
        with pytest.raises(ValueError, match=r"begin in 1\.\.5"):
            answer_log_probs(model(ids), ids, start)


def test_answers_are_drawn_as_the_model_says(model, generator):
    """20,000 answers of at most two tokens: each of the seven frequencies within 4 standard errors."""
    n = 20_000
    drawn = roll_out(model, torch.ones(n, 1, dtype=torch.long), 2, STOP, generator)
    p = model.table.detach().softmax(-1)
    for a in range(3):
        for b in range(3) if a != STOP else [None]:
            said = drawn.answers[:, 0] == a
            wanted = p[1, a].item()
            if b is not None:
                said, wanted = said & (drawn.answers[:, 1] == b), wanted * p[a, b].item()
            assert abs(said.double().mean().item() - wanted) < 4 * (wanted * (1 - wanted) / n) ** 0.5
    always = Bigram()
    always.table.data[:, STOP] = 50.0
    assert roll_out(always, torch.ones(3, 1, dtype=torch.long), 9, STOP, generator).answers.shape == (3, 1), "all have ended"
    with pytest.raises(ValueError, match="longest = 0"):
        roll_out(model, torch.ones(3, 1, dtype=torch.long), 0, STOP, generator)


def test_the_sum_of_token_kl_is_the_kl_of_answers(model, generator):
    """The chain rule: 20,000 answers; both within 4 standard errors of the listed sum, token KL the quieter one."""
    other = Bigram()
    n = 20_000
    drawn = roll_out(model, torch.ones(n, 1, dtype=torch.long), 2, STOP, generator)
    log_p, log_q = (m(drawn.ids)[:, :-1].log_softmax(-1).detach() for m in (model, other))
    exact = (token_kl(log_p, log_q) * drawn.mask).sum(1)
    k1 = (kl_estimates(*(x.gather(-1, drawn.answers[..., None])[..., 0] for x in (log_p, log_q)))[0] * drawn.mask).sum(1)
    p, q = model.table.detach().softmax(-1), torch.full((3, 3), 1 / 3)
    listed = sum((p[1, a] * (p[1, a] / q[1, a]).log()).item() for a in range(3))
    listed += sum(p[1, a].item() * (p[a] * (p[a] / q[a]).log()).sum().item() for a in (1, 2))
    for estimate in (exact, k1):
        assert abs(estimate.mean().item() - listed) < 4 * estimate.std().item() / n**0.5
    assert exact.std() < k1.std()


def aligned(model, loss, batch, **how):
    learner = copy.deepcopy(model)
    list(train(learner, loss, lambda step: batch, TrainConfig(clip=None, **how)))
    return learner


def test_dpo_moves_towards_what_was_chosen_and_the_reference_matters(model, generator):
    prompts = torch.ones(64, 1, dtype=torch.long)
    drawn = roll_out(model, prompts.repeat(2, 1), 3, STOP, generator)
    by_length = drawn.mask.sum(1).argsort(stable=True)  # the shorter half was preferred
    a, b = drawn.pick(by_length[:64]), drawn.pick(by_length[64:])
    pairs = Pairs.of(model, a, b)
    learner = aligned(model, dpo_objective(0.5), pairs, steps=40, lr=0.05)
    with torch.no_grad():
        gained = weigh(learner, a) - weigh(learner, b) - pairs.ref_chosen + pairs.ref_rejected
    assert gained.mean() > 0.5
    assert torch.equal(pairs.pick(torch.tensor([3])).chosen.ids, a.ids[3:4])
    with pytest.raises(ValueError, match="as many answers on both sides, got 64 and 1"):
        Pairs.of(model, a, b.pick(torch.tensor([0])))
    imitator = aligned(model, chosen_objective(), pairs, steps=40, lr=0.05)
    with torch.no_grad():
        assert weigh(imitator, a).mean() > weigh(model, a).mean() + 0.1


def test_grpo_learns_a_reward_and_beta_holds_it_back(model):
    """The reward: end at once. It must become likely; with much beta, less."""
    prompts = torch.ones(16, 1, dtype=torch.long)

    def quick(beta):
        loss = Grpo(lambda r: (r.answers[:, 0] == STOP).float(), model, STOP, 4, group=8, beta=beta)
        learner = aligned(model, loss, prompts, steps=60, lr=0.05)
        assert len(loss.rewards) == len(loss.distances) == 60
        assert loss.distances[0] == pytest.approx(0, abs=1e-6)
        return learner.table.softmax(-1)[1, STOP].item()

    start = model.table.softmax(-1)[1, STOP].item()
    assert quick(0.0) > 0.9 > start
    assert start < quick(3.0) < quick(0.0)


def test_reused_answers_are_drawn_once_and_clipped(model):
    prompts = torch.ones(8, 1, dtype=torch.long)
    loss = Grpo(lambda r: (r.answers[:, 0] == STOP).float(), model, STOP, 4, reuse=3)
    aligned(model, loss, prompts, steps=7, lr=0.01)
    assert len(loss.rewards) == 3
    with pytest.raises(ValueError, match="group must be at least 2 and reuse at least 1, got 1 and 1"):
        Grpo(lambda r: r, model, STOP, 4, group=1)
