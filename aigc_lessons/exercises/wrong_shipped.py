"""Wrong windows, grids, intervals and copies, which the checkers of lesson 38 recognise by what they give."""

import math

import torch


def rounded(levels=lambda bits: 2 ** (bits - 1) - 1, scale=lambda x: x.abs().amax(1, keepdim=True), to=torch.round):
    """A wrong round_groups from the number of points on each side, the largest weight, and the way of rounding."""

    def wrong(x, bits):
        m = levels(bits)
        s = scale(x) / m
        return s * to(x / torch.where(s > 0, s, 1.0))

    return wrong


def on_a_grid(x, low, high, scale):
    return scale * (x / torch.where(scale > 0, scale, 1.0)).round().clamp(low, high)


def twos_complement(x, bits):
    m = 2 ** (bits - 1)
    return on_a_grid(x, -m, m - 1, x.abs().amax(1, keepdim=True) / m)


def largest_without_sign(x, bits):
    m = 2 ** (bits - 1) - 1
    return on_a_grid(x, -m, m, x.amax(1, keepdim=True) / m)


def short_scale(x, bits):
    m = 2 ** (bits - 1) - 1
    return on_a_grid(x, -m, m, (x.abs().amax(1, keepdim=True) / m).half().float())


def smallest_to_largest(x, bits):
    low, high = x.aminmax(dim=1, keepdim=True)
    points = 2**bits - 1
    return low + on_a_grid(x - low, 0, points, (high - low) / points)


def ends(half, middle=lambda p, n, z: p):
    """A wrong interval from its half width and its middle."""

    def wrong(right, n, z):
        p = right / n
        return torch.tensor([middle(p, n, z) - half(p, n, z), middle(p, n, z) + half(p, n, z)], dtype=torch.float64)

    return wrong


def wilson_middle(p, n, z, pull=0.5):
    return (p + pull * z * z / n) / (1 + z * z / n)


def wilson_half(p, n, z):
    return z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)


wald = ends(lambda p, n, z: z * math.sqrt(p * (1 - p) / n))


def windows(text, source, drop=lambda start, end: start + 1):
    """For each letter of the text the longest stretch of the source that ends there, or what a wrong drop leaves of it."""
    start, found = 0, []
    for end in range(1, len(text) + 1):
        while text[start:end] not in source:
            start = drop(start, end)
        found.append(text[start:end])
    return found


def the_copy_itself(text, source):
    return max(windows(text, source), key=len, default="")


def last_window(text, source):
    return len(windows(text, source)[-1]) if text else 0


def all_let_go(keep):
    """A window that does not fit begins anew: with its last letter, or (keep = 0) after it."""

    def wrong(text, source):
        return max(map(len, windows(text, source, lambda start, end: max(end - keep, start + 1))), default=0)

    return wrong


def subsequence(text, source):
    row = [0] * (len(source) + 1)
    for a in text:
        above = 0
        for j, b in enumerate(source, 1):
            above, row[j] = row[j], above + 1 if a == b else max(row[j], row[j - 1])
    return row[-1]


def from_the_start(text, source):
    return max((k for k in range(len(text) + 1) if text[:k] in source), default=0)


def same_place(text, source):
    best = run = 0
    for a, b in zip(text, source, strict=False):
        run = run + 1 if a == b else 0
        best = max(best, run)
    return best


def whole_words(text, source):
    parts = text.split(" ")
    ranges = [" ".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]
    return max((len(piece) for piece in ranges if piece in source), default=0)
