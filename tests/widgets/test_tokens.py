"""The token explorer without a browser: spelling with fewer merges, tokens as they are shown, what is refused."""

import pytest
from matplotlib import pyplot as plt

from aigc_lessons.language import bpe
from aigc_lessons.language.tokenizer import BPETokenizer
from aigc_lessons.widgets import tokens
from aigc_lessons.widgets.tokens import EXAMPLES, TokenExplorer, show_tokens, shown, spelled, statistics

ENGLISH = (
    "the question is the question, and that is that: to be or not to be. Whether it is nobler in the mind to suffer"
    " the slings and arrows of outrageous fortune, or to take arms against a sea of troubles, and by opposing end them. "
)
TOKENIZER = BPETokenizer.train(ENGLISH, 300)
CHINESE = BPETokenizer.train("话说天下大势，分久必合，合久必分。" * 9, 285)


def by_replay(tokenizer, text, used):
    """Every merge in the order learned, once through the whole word: another way to the same ids."""
    ids = []
    for word in bpe.split(text):
        spelling = bpe.byte_ids(word)
        for new, pair in enumerate(tokenizer.merges[:used], start=256):
            bpe.merge(spelling, pair, new)
        ids += spelling
    return ids


@pytest.mark.parametrize("used", [0, 1, 2, 7, 30, 44, None])
@pytest.mark.parametrize("text", [ENGLISH[:80], *EXAMPLES.values(), ""])
def test_spelling_with_fewer_merges_is_the_replay_of_those(text, used):
    assert spelled(TOKENIZER, text, used) == by_replay(TOKENIZER, text, 44 if used is None else used)
    assert TOKENIZER.decode(spelled(TOKENIZER, text, used)) == text


def test_more_merges_never_make_more_tokens():
    for text in EXAMPLES.values():
        lengths = [len(spelled(CHINESE, text, used)) for used in range(len(CHINESE.merges) + 1)]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] == len(text.encode())


def test_statistics_count_bytes_tokens_and_cut_characters():
    assert statistics(TOKENIZER, "分", 0) == {"tokens": 3, "bytes": 3, "cut": 3}
    assert statistics(CHINESE, "分") == {"tokens": 1, "bytes": 3, "cut": 0}
    assert statistics(TOKENIZER, "the the") == {"tokens": 2, "bytes": 7, "cut": 0}
    assert statistics(TOKENIZER, "") == {"tokens": 0, "bytes": 0, "cut": 0}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (b" the", "␣the"),
        (b"\n\n", "⏎⏎"),
        ("三".encode(), "三"),
        ("三".encode()[:2], "⟨e4 b8⟩"),
        (b"\x07", "U+0007"),
        ("\u200d".encode(), "U+200D"),
        ("a\ufeff".encode(), "aU+FEFF"),
    ],
)
def test_tokens_can_be_seen(token, words):
    assert shown(token) == words


def test_the_still_figure_has_a_box_for_each_token():
    figure, (left, right) = plt.subplots(1, 2)
    text = "the question 三国 is " * 6
    show_tokens(left, TOKENIZER, text, title="English: ")
    show_tokens(right, CHINESE, text, columns=30)
    assert len(left.patches) == len(TOKENIZER.encode(text))
    assert len(right.patches) == len(CHINESE.encode(text))
    dashed = sum(patch.get_linestyle() == "--" for patch in left.patches)
    assert dashed == statistics(TOKENIZER, text)["cut"] > 0
    assert left.get_title(loc="left").startswith(f"English: {len(left.patches)} tokens, {len(text.encode())} bytes")
    assert all(patch.get_x() + patch.get_width() <= 30 for patch in right.patches)
    figure.canvas.draw()  # a missing character would warn
    plt.close(figure)


def test_the_widget_sends_the_merges_once():
    explorer = TokenExplorer({"English": TOKENIZER, "中文": CHINESE})
    assert explorer.given["tokenizers"]["English"] == [list(pair) for pair in TOKENIZER.merges]
    assert explorer.given["byte_order"] == list(bpe.BYTE_ORDER)
    assert (explorer.used, explorer.most) == (44, 44)
    explorer.used, explorer.text = 0, "三国"
    assert repr(explorer) == "the token explorer: English, 中文 (needs a running kernel)"


def test_what_makes_no_sense_is_refused(monkeypatch):
    explorer = TokenExplorer({"English": TOKENIZER})
    with pytest.raises(Exception, match=r"used must lie in 0\.\.44, got 45"):
        explorer.used = 45
    with pytest.raises(Exception, match="lone surrogate"):
        explorer.text = "\ud800"
    with pytest.raises(Exception, match="at most 4000"):
        explorer.text = "a" * 4001
    with pytest.raises(ValueError, match=r"0\.\.44, the number of merges, got -1"):
        spelled(TOKENIZER, "a", -1)
    with pytest.raises(ValueError, match="at least one"):
        TokenExplorer({})
    with pytest.raises(ValueError, match="GPT-2's pattern only; 'lines'"):
        TokenExplorer({"lines": BPETokenizer.train("ab ab\n", 257, pattern=r"[^\n]+|\n")})
    monkeypatch.setattr(tokens, "LARGEST", 256)
    with pytest.raises(ValueError, match="at most 256 ids, 'English' has 300"):
        TokenExplorer({"English": TOKENIZER})
