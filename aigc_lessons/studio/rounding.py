"""What bits cost: the shipped Shakespeare network rounded in every way, and its loss on plays it has not read."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from aigc_lessons.data.batches import windows
from aigc_lessons.data.text import shakespeare
from aigc_lessons.language.objective import held_out_nats
from aigc_lessons.language.tokenizer import CharTokenizer
from aigc_lessons.models.compensate import compensated_state, input_moments
from aigc_lessons.models.quantize import Quantized, pack_state, quantize_state, unpack_state
from aigc_lessons.training.checkpoints import card, pretrained

METHODS = ("nearest", "search", "feedback")
CALIBRATION, JUDGED, WINDOW = 16, 60_000, 128  # batches of 16 windows; characters; characters a window


@dataclass(frozen=True)
class Setting:
    bits: int
    group: int  # 0: a whole row
    method: str


def rounded(model: nn.Module, setting: Setting, moments: dict[str, Tensor] | None = None) -> dict[str, Quantized]:
    """Every matrix of a model, rounded; `moments` are needed for feedback, from `moments_of`.

    Raises: ValueError for a method that is none of METHODS, or feedback without moments.
    """
    if setting.method not in METHODS:
        raise ValueError(f"a method is one of {', '.join(METHODS)}, got {setting.method!r}")
    state, group = model.state_dict(), setting.group or max(w.shape[-1] for w in model.state_dict().values())
    if setting.method != "feedback":
        return quantize_state(state, setting.bits, group, search=setting.method == "search")
    if moments is None:
        raise ValueError("feedback needs the moments of the inputs: moments_of(model, ids)")
    return compensated_state(model, moments, setting.bits, group)


def moments_of(model: nn.Module, ids: Tensor, batches: int = CALIBRATION) -> dict[str, Tensor]:
    """What every linear layer has seen, over windows of training text."""
    given = windows(ids, WINDOW, 16, seed=5)
    return input_moments(model, (given(step)[0] for step in range(batches)))


def with_weights(model: nn.Module, matrices: dict[str, Quantized]) -> nn.Module:
    """A copy of the shipped network with its matrices replaced by rounded ones, by way of the packed form."""
    copy = pretrained("shakespeare")
    copy.load_state_dict(unpack_state(pack_state(model.state_dict(), matrices)))
    return copy


def size_of(matrices: dict[str, Quantized]) -> int:
    """Bytes of packed codes and of scales."""
    return sum(-(-q.codes.numel() * q.bits // 8) + 2 * q.scales.numel() for q in matrices.values())


def settings(rows: list[dict]) -> Iterator[Setting]:
    """Every number of bits and method with groups of 32; then other groups at four bits."""
    for method in METHODS:
        for bits in range(8, 1, -1):
            yield Setting(bits, 32, method)
    for group in (8, 16, 64, 128, 0):
        yield Setting(4, group, "nearest")


def ready() -> tuple[Callable[[Setting], dict], dict]:
    """How a setting is measured, and what the card says."""
    model, plays = pretrained("shakespeare"), shakespeare()
    tokenizer = CharTokenizer.from_text(card("shakespeare")["characters"])
    ids = torch.tensor(tokenizer.encode(plays.held_out[: JUDGED + 1]))
    moments = moments_of(model, torch.tensor(tokenizer.encode(plays.train)))
    base = held_out_nats(model, ids, WINDOW)

    def measure(setting: Setting) -> dict:
        matrices = rounded(model, setting, moments)
        more = held_out_nats(with_weights(model, matrices), ids, WINDOW) - base
        return asdict(setting) | {"bytes": size_of(matrices), "more": round(more, 5)}

    facts = {
        "network": f"shakespeare, {sum(p.numel() for p in model.parameters()):,} weights, all in matrices",
        "measured": f"nats a character above float32 on {JUDGED:,} held-out characters, windows of {WINDOW}",
        "float32": round(base, 5),
        "data": {"source": plays.source},
    }
    return measure, facts
