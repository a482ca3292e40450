"""Text of several kinds, and a tokenizer that has learned from all of them."""

import argparse
import heapq
import inspect
import random
import statistics
import typing
import unicodedata

import pytest

from aigc_lessons.data.text import plays, sanguo
from aigc_lessons.language.tokenizer import BPETokenizer

SPECIAL = ("<|end|>", "<|end|>!", "<|user|>")


@pytest.fixture(scope="module")
def corpora():
    """Real text of four kinds, more than 1 MB together."""
    code = "".join(inspect.getsource(module) for module in (argparse, heapq, inspect, statistics, typing))
    signs = [chr(i) for i in [*range(0x2190, 0x2800), *range(0x1F300, 0x1FB00)] if unicodedata.category(chr(i)) != "Cn"]
    families = ["👩‍👩‍👧‍👦", "👍🏽", "🇨🇳", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "❤️", "1️⃣", "naïve", "e\u0301", "   \t\n ", "\u3000", "\x1c", "\u180e", "\x85"]
    drawn = random.Random(4)
    return {
        "English": plays()["Hamlet"] + plays()["The Tempest"] + plays()["Twelfth Night"],
        "Chinese": sanguo()[:120_000],
        "code": code,
        "emoji": "".join(drawn.choice(drawn.choice([signs, families, " ab\n"])) for _ in range(20_000)),
    }


@pytest.fixture(scope="module")
def mixed(corpora):
    """Trained on all four, so that its merges reach into each."""
    return BPETokenizer.train("".join(text[:40_000] for text in corpora.values()), 3000, special_tokens=SPECIAL)
