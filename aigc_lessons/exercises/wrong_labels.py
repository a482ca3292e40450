"""Lesson 35's split, pool, LoRA layer and temperature: as they should be, and with the usual mistakes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from aigc_lessons.evaluation.calibration import fit_temperature
from aigc_lessons.exercises.core import Mistake


def split_by_scene(scenes, share, generator):
    names = scenes.unique()
    chosen = names[torch.randperm(len(names), generator=generator)[: round(share * len(names))]]
    held = torch.isin(scenes, chosen)
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def last_real(stream, real):
    places = torch.arange(1, real.shape[1] + 1) * real
    return stream[torch.arange(len(stream)), places.argmax(1)]


def lora_layer(x, W, A, B, alpha):
    return x @ (W + alpha / len(A) * B @ A).T


def best_temperature(logits, labels):
    return fit_temperature(logits, labels)


# ---------------------------------------------------------------------------------------------------- the usual mistakes


def _by_rows(scenes, share, generator):
    order = torch.randperm(len(scenes), generator=generator)
    cut = round(share * len(scenes))
    return order[cut:], order[:cut]


def _first_scenes(scenes, share, generator):
    names = scenes.unique()
    held = torch.isin(scenes, names[: round(share * len(names))])
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _turned_round(scenes, share, generator):
    return split_by_scene(scenes, share, generator)[::-1]


def _neighbours(scenes, share, generator):
    """A cut through the middle of a scene."""
    cut = round(share * len(scenes))
    rows = torch.arange(len(scenes))
    return rows[cut:], rows[:cut]


def _names(scenes, share, generator):
    names = scenes.unique()
    order = names[torch.randperm(len(names), generator=generator)]
    cut = round(share * len(names))
    return order[cut:], order[:cut]


def _scene_of_each_row(scenes, share, generator):
    train, test = split_by_scene(scenes, share, generator)
    return scenes[train], scenes[test]


def _counted_from_0(scenes, share, generator):
    kinds = len(scenes.unique())
    held = torch.isin(scenes, torch.randperm(kinds, generator=generator)[: round(share * kinds)])
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _ends(place: Callable):
    return lambda stream, real: stream[torch.arange(len(stream)), place(real).clamp(0, real.shape[1] - 1)]


def _searched(score: Callable):
    """The T of a fine grid with the lowest score."""

    def wrong(logits, labels):
        grid = torch.logspace(-1.5, 1.5, 601, dtype=torch.float64)
        return min(grid.tolist(), key=lambda T: score((logits.double() / T).softmax(1), labels))

    return wrong


def _brier(p, labels):
    return (p - F.one_hot(labels, p.shape[1])).square().sum(1).mean().item()


def _gap(p, labels):
    return abs(p.max(1).values.mean().item() - (p.argmax(1) == labels).double().mean().item())


def _own_choice(p, labels):
    return -p.max(1).values.log().mean().item()


def _lowest_loss(logits, labels):
    return F.cross_entropy(logits.double() / fit_temperature(logits, labels), labels).item()


MISTAKES = {
    "35.1": [
        Mistake(_by_rows,
                "You shuffled the passages. Passages of one scene then stand on both sides; shuffle the *scenes*."),
        Mistake(_neighbours,
                "You cut the list at one place: without the generator, and through the middle of a scene."),
        Mistake(_first_scenes,
                "Always the same scenes: draw them with torch.randperm(..., generator=generator)."),
        Mistake(_turned_round,
                "The two sides have changed places: first the rows to learn from, then the rows to be judged on."),
        Mistake(_names,
                "You returned numbers of scenes; return numbers of *rows*: where does each scene occur?"),
        Mistake(_scene_of_each_row,
                "You returned the scene of each row; return the numbers of the rows themselves."),
        Mistake(_counted_from_0,
                "Scenes may have any numbers, not only 0, 1, 2 ...: draw from scenes.unique()."),
    ],
    "35.2": [
        Mistake(lambda stream, real: stream[:, -1],
                "That is the last place, which is padding in a short text: take the last place where `real` is True."),
        Mistake(_ends(lambda real: real.sum(1) - 1),
                "You counted the real tokens. That finds the last only where padding stands behind; look for its place."),
        Mistake(_ends(lambda real: real.sum(1)),
                "Off by one: n tokens stand at the places 0 to n - 1."),
        Mistake(_ends(lambda real: real.long().argmax(1)),
                "That is the first real token, which has read nothing before it."),
        Mistake(lambda stream, real: (stream * real[..., None]).sum(1) / real.sum(1, keepdim=True),
                "That is the mean over the real tokens; here one of them is asked for, the last."),
        Mistake(lambda stream, real: stream.mean(1),
                "That is a mean, and over the padding too."),
    ],
    "35.3": [
        Mistake(lambda x, W, A, B, alpha: x @ (W + B @ A).T,
                "The factor alpha / r is missing; r is the number of rows of A."),
        Mistake(lambda x, W, A, B, alpha: x @ (W + alpha * B @ A).T,
                "Divide alpha by the rank r, the number of rows of A."),
        Mistake(lambda x, W, A, B, alpha: x @ (W + alpha / A.shape[1] * B @ A).T,
                "You divided by the width of the input. The rank r is the *smaller* side of A: its number of rows."),
        Mistake(lambda x, W, A, B, alpha: alpha / len(A) * x @ (B @ A).T,
                "W is missing: the change is added to what the layer did before."),
        Mistake(lambda x, W, A, B, alpha: x @ (W + alpha / len(B) * B @ A).T,
                "You divided by the number of rows of B, the width of the output. The rank r is the number of rows of A."),
        Mistake(lambda x, W, A, B, alpha: x @ (W + len(A) / alpha * B @ A).T,
                "The factor is upside down: alpha / r, not r / alpha."),
        Mistake(lambda x, W, A, B, alpha: alpha / len(A) * x @ (W + B @ A).T,
                "The factor alpha / r belongs to the change B A alone; W stays as it is."),
    ],
    "35.4": [
        Mistake(_searched(_gap),
                "You made mean confidence and accuracy equal: one condition of many. Minimise the cross-entropy."),
        Mistake(_searched(_brier),
                "That T minimises the squared error (Brier score); asked for is the lowest cross-entropy."),
        Mistake(_searched(_own_choice),
                "You took the probability of the likeliest class, which only makes the model surer. Take the *label's*."),
        Mistake(lambda logits, labels: 1 / fit_temperature(logits, labels),
                "That is 1 / T: the logits are divided by T."),
        Mistake(_lowest_loss,
                "That is the lowest loss; asked for is the T at which it is reached."),
    ],
}  # fmt: skip
