"""The rule for verse: the counter on words whose syllables are known, and every part of q."""

import pytest

from aigc_lessons.language.verse import Verse, syllables, words_of


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("Shall I compare thee to a summer's day", 10),
        ("Now is the winter of our discontent", 10),
        ("If music be the food of love, play on", 10),
        ("tale", 1), ("tales", 1), ("talked", 1), ("wanted", 2), ("the", 1), ("title", 2), ("roses", 2), ("graces", 2),
        ("hmm", 1), ("", 0), ("--?", 0), ("'tis o'er", 2),
    ],
)  # fmt: skip
def test_syllables(line, count):
    assert syllables(line) == count


def test_words_lose_the_apostrophes_at_their_ends():
    assert words_of("'Tis thy 'fault', O'er!") == ["tis", "thy", "fault", "o'er"]
    assert words_of("--?'") == []


def test_q_is_the_share_of_known_words_times_closeness():
    verse = Verse({"go", "to"}, wanted=4, reach=2)
    assert verse("go to to go") == 1.0
    assert verse.strict("go to to go")
    assert verse("go to to xo") == pytest.approx(0.75)
    assert verse("go to to") == pytest.approx(0.5)
    assert verse("go to go to go") == pytest.approx(0.5)
    assert verse("go to") == verse("go to go to go to go") == verse("") == verse("?!") == 0.0
    assert verse("go to to go", ended=False) == 0.0
    assert not verse.strict("go to to")


def test_senseless_rules_are_refused():
    with pytest.raises(ValueError, match="at least one word"):
        Verse(set())
    with pytest.raises(ValueError, match="reach must be at least 1, got 0"):
        Verse({"a"}, reach=0)
