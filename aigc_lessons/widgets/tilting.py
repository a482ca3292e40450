"""A reward that is nearly right, and how hard to follow it: all 64 words of three letters, so that every number is exact."""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from jaxtyping import Float

from aigc_lessons.language.preference import tilt, token_kl

LETTERS = "tnoe"
WORDS = ["".join(letters) for letters in itertools.product(LETTERS, repeat=3)]
FIRST = (0.35, 0.3, 0.15, 0.2)  # how likely each letter is at the beginning
NEXT = {"t": (0.3, 0.25, 0.2, 0.25), "n": (0.3, 0.3, 0.15, 0.25), "o": (0.25, 0.3, 0.2, 0.25), "e": (0.25, 0.3, 0.2, 0.25)}
WEAKEST, STRONGEST = 8.0, 0.05  # beta
OVERPAID = 2.0  # at most, for each o


@dataclass(frozen=True)
class Pull:
    """How hard the reward is followed (the smaller beta, the harder), and by how much it overpays each letter o."""

    beta: float = 1.0
    overpaid: float = 1.3


def log_reference() -> Float[np.ndarray, " 64"]:
    """log probability of each word under the reference: a table of which letter follows which."""
    rows = {letter: dict(zip(LETTERS, shares, strict=True)) for letter, shares in NEXT.items()}
    first = dict(zip(LETTERS, FIRST, strict=True))
    return np.log([first[w[0]] * rows[w[0]][w[1]] * rows[w[1]][w[2]] for w in WORDS])


def liked() -> Float[np.ndarray, " 64"]:
    """What the readers really like: vowels and consonants in turns. 0, 1/2 or 1 for none, one or two changes."""
    vowels = np.array([[letter in "oe" for letter in word] for word in WORDS])
    return (vowels[:, 1:] != vowels[:, :-1]).sum(1) / 2


def learned(overpaid: float) -> Float[np.ndarray, " 64"]:
    """What the reward model says: what readers like, and too much for each o."""
    return liked() + overpaid * np.array([word.count("o") for word in WORDS])


def tilted(pull: Pull) -> Float[np.ndarray, " 64"]:
    """The policy that is best at the learned reward less beta KL: reference * exp(reward / beta) / Z."""
    log_pi, _ = tilt(torch.from_numpy(log_reference()), torch.from_numpy(learned(pull.overpaid)), pull.beta)
    return log_pi.exp().numpy()


def curve(overpaid: float, betas: Float[np.ndarray, " K"]) -> dict[str, Float[np.ndarray, " K"]]:
    """For each beta: nats from the reference, the mean of what readers like, the mean of the learned reward."""
    pis = [tilted(Pull(beta, overpaid)) for beta in betas]
    log_ref = torch.from_numpy(log_reference())
    kl = [token_kl(torch.from_numpy(pi).clamp(min=1e-300).log(), log_ref).item() for pi in pis]
    return {
        "kl": np.array(kl),
        "liked": np.array([pi @ liked() for pi in pis]),
        "learned": np.array([pi @ learned(overpaid) for pi in pis]),
    }


def ladder() -> Float[np.ndarray, " 121"]:
    """The betas of the slider, from weak to strong."""
    return np.geomspace(WEAKEST, STRONGEST, 121)


def verdict(pull: Pull) -> str:
    """What the explorer says, in words."""
    pi, along = tilted(pull), curve(pull.overpaid, ladder())
    here = curve(pull.overpaid, np.array([pull.beta]))
    mean, kl, best = here["liked"][0], here["kl"][0], along["liked"].max()
    top = int(pi.argmax())
    if kl < 0.02:
        head = "Hardly moved: KL is dear, and the policy stays what it was."
    elif mean > best - 0.01:
        head = "Here readers like it best."
    elif kl < along["kl"][along["liked"].argmax()]:
        head = "On the way up: both rewards rise."
    elif mean < np.exp(log_reference()) @ liked():
        head = "Hacked: the learned reward is far up, and readers liked the reference better."
    else:
        head = "Past the peak: the learned reward still rises, what readers like falls."
    return (
        f"{head} Readers {mean:.2f} of 1 (reference {np.exp(log_reference()) @ liked():.2f}, peak {best:.2f}),"
        f" KL {kl:.2f} nats; most likely now: {WORDS[top]}, {100 * pi[top]:.0f} in 100."
    )


class TiltExplorer(anywidget.AnyWidget):
    """Two sliders and all 64 words; the curves are computed in the browser, like everything else."""

    _esm = Path(__file__).with_name("tilting.js")
    _css = Path(__file__).with_name("tilting.css")
    given = traitlets.Dict().tag(sync=True)
    beta = traitlets.Float(1.0).tag(sync=True)
    overpaid = traitlets.Float(1.3).tag(sync=True)

    def __init__(self, pull: Pull | None = None):
        pull = pull or Pull()
        super().__init__(
            given={"words": WORDS, "log_ref": log_reference().tolist(), "liked": liked().tolist(),
                   "ladder": ladder().tolist(), "most": OVERPAID},
            **asdict(pull),
        )  # fmt: skip

    @traitlets.validate("beta")
    def _a_beta(self, proposal):
        if not STRONGEST <= proposal.value <= WEAKEST:
            raise ValueError(f"beta must lie in {STRONGEST}..{WEAKEST}, got {proposal.value}")
        return proposal.value

    @traitlets.validate("overpaid")
    def _a_price(self, proposal):
        if not 0 <= proposal.value <= OVERPAID:
            raise ValueError(f"overpaid must lie in 0..{OVERPAID}, got {proposal.value}")
        return proposal.value

    def __repr__(self) -> str:
        return "the tilt explorer: 64 words, a reward, beta (needs a running kernel)"
