"""How much a lesson computes, and what it may then claim.

AIGC_LESSONS_BUDGET=tiny shrinks every budget, so that the structure of a lesson can be tested in seconds. Claims about
trained numbers are then not judged.
"""

import operator
import os

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
TINY_SHARE = 100


def is_tiny() -> bool:
    """Whether AIGC_LESSONS_BUDGET asks for tiny budgets.

    Raises: ValueError for a value that is neither "tiny", "full" nor empty.
    """
    budget = os.environ.get("AIGC_LESSONS_BUDGET", "") or "full"
    if budget not in ("tiny", "full"):
        raise ValueError(f"AIGC_LESSONS_BUDGET must be 'tiny' or 'full', got {budget!r}")
    return budget == "tiny"


def steps(full: int, *, at_least: int = 2) -> int:
    """A number of steps (or of samples): `full`, or a hundredth of it when budgets are tiny."""
    return max(min(at_least, full), full // TINY_SHARE) if is_tiny() else full


def bound(value: float, comparison: str, limit: float, what: str = "") -> None:
    """Judge a trained number against a stated bound, and print the verdict.

    The number itself stands in brackets: it differs in its last digits from one processor to the next, so the comparison
    of notebooks passes over it, while the verdict must be the same everywhere.

    Args:
        comparison: "<", "<=", ">" or ">=".
        what:       what the number is, in a few words.
    Raises: ValueError for another comparison.
    """
    if comparison not in COMPARISONS:
        raise ValueError(f"comparison must be one of {', '.join(COMPARISONS)}, got {comparison!r}")
    if is_tiny():
        print(f"{what} {comparison} {limit:g}: not judged".strip())
        return
    holds = COMPARISONS[comparison](value, limit)
    print(f"{what} {comparison} {limit:g}: {'holds' if holds else 'DOES NOT HOLD'} [here {value:.4g}]".strip())
