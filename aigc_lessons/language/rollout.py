"""Answers of a language model: drawn, cut at their end, weighed; and losses that learn from them, for the training loop."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aigc_lessons.language.generation import generate
from aigc_lessons.language.preference import dpo_loss, group_advantages, grpo_loss, token_kl


@dataclass(frozen=True, eq=False)
class Rollout:
    """Prompts with the answers that were drawn, and which tokens of the answers count."""

    ids: Int[Tensor, "B N"]
    mask: Bool[Tensor, "B T"]

    @property
    def start(self) -> int:
        """Where the answers begin: N - T."""
        return self.ids.shape[1] - self.mask.shape[1]

    @property
    def answers(self) -> Int[Tensor, "B T"]:
        return self.ids[:, self.start :]

    def pick(self, rows: Int[Tensor, " b"]) -> "Rollout":
        """Some of the answers."""
        return Rollout(self.ids[rows], self.mask[rows])

    def ended(self, stop: int) -> Bool[Tensor, " B"]:
        """Which answers came to their end, the token `stop`."""
        return ((self.answers == stop) & self.mask).any(1)


def answer_mask(answers: Int[Tensor, "B T"], stop: int) -> Bool[Tensor, "B T"]:
    """True up to and including the first `stop` of each row: what comes after it was never said."""
    stopped = (answers == stop).cumsum(1)
    return (stopped - (answers == stop).long()) == 0


def roll_out(
    model: Callable[..., Tensor], prompts: Int[Tensor, "B P"], longest: int, stop: int, generator: torch.Generator,
    temperature: float = 1.0,
) -> Rollout:  # fmt: skip
    """Draw an answer to each prompt, up to `stop` or `longest` tokens; ends early when all rows have stopped.

    Raises: ValueError if longest is below 1, or as `generate` does.
    """
    if longest < 1:
        raise ValueError(f"an answer needs room for at least one token, got longest = {longest}")
    drawn, open_rows = [], torch.ones(len(prompts), dtype=torch.bool, device=prompts.device)
    for token in generate(model, prompts, longest, temperature=temperature, generator=generator):
        drawn.append(token)
        open_rows &= token != stop
        if not open_rows.any():
            break
    answers = torch.stack(drawn, 1)
    return Rollout(torch.cat([prompts, answers], 1), answer_mask(answers, stop))


def answer_log_probs(logits: Float[Tensor, "B N V"], ids: Int[Tensor, "B N"], start: int) -> Float[Tensor, "B T"]:
    """log p(token | everything before it) for the tokens from `start` on: row t of the logits speaks of token t + 1.

    Raises: ValueError unless 1 <= start < N: the first token of all has nothing before it.
    """
    N = ids.shape[1]
    if not 1 <= start < N:
        raise ValueError(f"answers must begin in 1..{N - 1} (there are {N} tokens), got {start}")
    log_p = logits[:, start - 1 : -1].log_softmax(-1)
    return log_p.gather(-1, ids[:, start:, None])[..., 0]


def sequence_log_prob(log_probs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """log pi(y | x): the sum over the tokens that count."""
    return torch.where(mask, log_probs, torch.zeros_like(log_probs)).sum(1)


class Pairs(NamedTuple):
    """For each prompt an answer that was preferred and one that was not, and what the reference says of both.

    A tuple of tensors, as the training loop wants its batches; `Pairs.of` makes one.
    """

    chosen_ids: Int[Tensor, "B N"]
    chosen_mask: Bool[Tensor, "B T"]
    rejected_ids: Int[Tensor, "B M"]
    rejected_mask: Bool[Tensor, "B S"]
    ref_chosen: Float[Tensor, " B"]
    ref_rejected: Float[Tensor, " B"]

    @classmethod
    def of(cls, reference: Callable[[Tensor], Tensor], chosen: Rollout, rejected: Rollout) -> "Pairs":
        """Raises ValueError if chosen and rejected differ in their number."""
        if len(chosen.ids) != len(rejected.ids):
            raise ValueError(f"pairs need as many answers on both sides, got {len(chosen.ids)} and {len(rejected.ids)}")
        with torch.no_grad():
            log_ref = weigh(reference, chosen), weigh(reference, rejected)
        return cls(chosen.ids, chosen.mask, rejected.ids, rejected.mask, *log_ref)

    @property
    def chosen(self) -> Rollout:
        return Rollout(self.chosen_ids, self.chosen_mask)

    @property
    def rejected(self) -> Rollout:
        return Rollout(self.rejected_ids, self.rejected_mask)

    def pick(self, rows: Int[Tensor, " b"]) -> "Pairs":
        """Some of the pairs."""
        return Pairs(*(part[rows] for part in self))


def weigh(network: Callable[[Tensor], Tensor], rollout: Rollout) -> Float[Tensor, " B"]:
    """log pi(answer | prompt) of each row."""
    return sequence_log_prob(answer_log_probs(network(rollout.ids), rollout.ids, rollout.start), rollout.mask)


def dpo_objective(beta: float):
    """The loss of DPO on a batch of `Pairs`, for the training loop."""

    def loss_fn(network: nn.Module, batch: Pairs, generator: torch.Generator) -> Tensor:
        return dpo_loss(
            weigh(network, batch.chosen), weigh(network, batch.rejected), batch.ref_chosen, batch.ref_rejected, beta
        )

    return loss_fn


def chosen_objective():
    """Supervised training on the preferred answers alone: mean of -log pi over their tokens. A plain alternative to DPO."""

    def loss_fn(network: nn.Module, batch: Pairs, generator: torch.Generator) -> Tensor:
        return -weigh(network, batch.chosen).sum() / batch.chosen.mask.sum()

    return loss_fn


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Answers that are being learned from, and what does not change while they are."""

    rollout: Rollout
    advantages: Tensor  # (B,)
    log_ref: Tensor  # (B, T, V)
    log_old: Tensor | None = None  # (B, T)


@dataclass(eq=False)
class Grpo:
    """The loss of GRPO on a batch of prompts (P, L), for the training loop.

    `group` answers to each prompt are drawn from the network as it is, judged, compared with one another, and learned from.

    Args:
        reward:    Rollout -> one number for each answer.
        reference: ids -> logits; the policy not to lose sight of.
        stop:      the token that ends an answer.
        longest:   tokens of an answer at most.
        group:     answers to each prompt, at least 2.
        beta:      weight of the exact KL at each token; clip: as for `grpo_loss`.
        reuse:     steps that learn from the same answers before new ones are drawn. From the second of them on the policy is
                   no longer the one that drew them, and the clip has something to do.
    Attributes: rewards, mean reward of each drawing; distances, nats from the reference for each of its answers.
    Raises: ValueError for a group below 2 or reuse below 1.
    """

    reward: Callable[[Rollout], Tensor]
    reference: Callable[[Tensor], Tensor]
    stop: int
    longest: int
    group: int = 8
    beta: float = 0.05
    clip: float = 0.2
    reuse: int = 1
    rewards: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    _calls: int = 0
    _drawn: _Drawn | None = None

    def __post_init__(self):
        if self.group < 2 or self.reuse < 1:
            raise ValueError(f"group must be at least 2 and reuse at least 1, got {self.group} and {self.reuse}")

    def __call__(self, network: nn.Module, prompts: Int[Tensor, "P L"], generator: torch.Generator) -> Tensor:
        if self._calls % self.reuse == 0:
            self._drawn = self._draw(network, prompts, generator)
        self._calls += 1
        drawn, rollout = self._drawn, self._drawn.rollout
        log_all = network(rollout.ids)[:, rollout.start - 1 : -1].log_softmax(-1)
        log_p = log_all.gather(-1, rollout.answers[..., None])[..., 0]
        kl = token_kl(log_all, drawn.log_ref)
        if drawn.log_old is None:
            drawn = self._drawn = replace(drawn, log_old=log_p.detach())
            self.distances.append((kl.detach() * rollout.mask).sum(1).mean().item())
        return grpo_loss(log_p, drawn.log_old, drawn.advantages, rollout.mask, kl, clip=self.clip, beta=self.beta)

    @torch.no_grad()
    def _draw(self, network: nn.Module, prompts: Tensor, generator: torch.Generator) -> _Drawn:
        rollout = roll_out(network, prompts.repeat_interleave(self.group, 0), self.longest, self.stop, generator)
        rewards = self.reward(rollout)
        self.rewards.append(rewards.mean().item())
        log_ref = self.reference(rollout.ids)[:, rollout.start - 1 : -1].log_softmax(-1)
        return _Drawn(rollout, group_advantages(rewards.view(-1, self.group)).flatten(), log_ref)
