"""Lesson 00: one warm-up."""

from aigc_lessons.exercises.core import CheckResult, Mistake, compare, exercise, noise


def mix(x0, eps, abar):
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * eps


MISTAKES = {
    "00.1": [
        Mistake(
            lambda x0, eps, abar: abar * x0 + (1 - abar) * eps,
            "Both square roots are missing: abar and 1 - abar are shares of the variance, and amplitudes are their roots.",
        ),
        Mistake(
            lambda x0, eps, abar: abar**0.5 * x0 + (1 - abar) * eps,
            "The square root around 1 - abar is missing: the noise comes out too weak.",
        ),
        Mistake(
            lambda x0, eps, abar: abar * x0 + (1 - abar) ** 0.5 * eps,
            "The square root around abar is missing: the picture comes out too weak.",
        ),
        Mistake(
            lambda x0, eps, abar: abar**0.5 * x0 + (1 - abar**0.5) * eps,
            "Is the 1 inside the square root? You subtract after taking the root: 1 - sqrt(abar) is not sqrt(1 - abar).",
        ),
        Mistake(
            lambda x0, eps, abar: abar**0.5 * eps + (1 - abar) ** 0.5 * x0,
            "Picture and noise have changed places: at abar = 1 only the picture should be left.",
        ),
    ]
}


@exercise("00.1")
def check_mix(answer) -> CheckResult:
    edges = [(1, 0.0), (2, 1.0)]
    inside = [(3, 0.25), (4, 0.5), (5, 0.81), (6, 0.03), (7, 0.97)]
    inputs = [{"x0": noise(k, 3), "eps": noise(100 + k, 3), "abar": abar} for k, abar in inside + edges]
    return compare(
        "00.1", answer, mix, inputs, MISTAKES["00.1"],
        praise="Right on seven inputs, the two ends included. You have written the forward process of every lesson to come.",
        hint="One weight multiplies x0, the other eps; their squares add up to 1.",
    )  # fmt: skip


REFERENCES = {"00.1": mix}
