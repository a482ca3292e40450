"""BM25 against the formula word by word, vectors against cosines, and what is refused."""

import math
from pathlib import Path

import pytest
import torch

from aigc_lessons.language import retrieval
from aigc_lessons.language.retrieval import BM25, Dense, recall, words

LIBRARY = [
    "The king of Tabel is Pomur.",
    "They sing Kozi in Lusod, and sing, and sing.",
    "Tabel lies by the river; the river of Tabel is the Gana.",
    "",
    "Don't ask for the king: nobody knows.",
]


def by_hand(query, documents, k1=1.2, b=0.75):
    """The formula, one term after the other, from lists of words."""
    texts = [words(text) for text in documents]
    mean = sum(map(len, texts)) / len(texts)
    total = []
    for text in texts:
        score = 0.0
        for word in words(query):
            holders, f = sum(word in other for other in texts), text.count(word)
            idf = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
            score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(text) / mean)) if f else 0.0
        total.append(score)
    return torch.tensor(total, dtype=torch.float64)


@pytest.mark.parametrize("query", ["Who is the king of Tabel?", "sing sing", "nothing here", "", "river TABEL don't"])
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.0, 0.0), (2.0, 1.0)])
def test_scores_are_the_formula(query, k1, b):
    torch.testing.assert_close(BM25(LIBRARY, k1, b).scores(query), by_hand(query, LIBRARY, k1, b))


def test_the_right_line_is_found_and_equals_keep_their_order():
    library = BM25(LIBRARY)
    assert [hit.index for hit in library.search("Who is the king of Tabel?", 2)] == [0, 2]
    assert [hit.index for hit in library.search("zebra", 9)] == [0, 1, 2, 3, 4]
    assert library.search("river")[0].text == LIBRARY[2]


def test_repeating_saturates_and_length_costs():
    score = lambda text, b=0.75: BM25(["king", text, "other words here", "and others"], b=b).scores("king")[1].item()  # noqa: E731
    steps = [score("king " * n, b=0.0) for n in (1, 2, 3, 4)]
    assert steps == sorted(steps)
    assert steps[3] - steps[2] < steps[1] - steps[0]
    assert score("king") > score("king of a far and quiet land")


def test_words():
    assert words("Who's the KING, of Tabel?") == ["who's", "the", "king", "of", "tabel"]
    assert words("--- 'tis ...") == ["tis"]


def test_dense_is_a_cosine_after_centring():
    table = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 1.0], "q": [2.0, 0.5]}
    library = Dense(["a", "b", "c"], lambda texts: torch.tensor([table[t] for t in texts]))
    mean = torch.tensor([2 / 3, 2 / 3], dtype=torch.float64)
    q = torch.tensor([2.0, 0.5], dtype=torch.float64) - mean
    wanted = [torch.cosine_similarity(torch.tensor(table[t]).double() - mean, q, dim=0).item() for t in "abc"]
    assert library.scores("q").tolist() == pytest.approx(wanted)
    assert library.search("q")[0].text == max("abc", key=lambda t: wanted["abc".index(t)])


def test_questions_have_a_mean_of_their_own():
    table = {"a": [1.0, 0.0], "b": [0.0, 1.0], "q": [9.0, 8.0], "r": [8.0, 9.0]}
    library = Dense(["a", "b"], lambda texts: torch.tensor([table[t] for t in texts]), questions=["q", "r"])
    assert library.scores("q").tolist() == pytest.approx([1.0, -1.0])
    assert library.scores("r").tolist() == pytest.approx([-1.0, 1.0])


def test_recall():
    assert recall([[1, 2], [3], [0, 5]], [2, 1, 0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: BM25([]), "at least one text"),
        (lambda: BM25("one text"), "a list of"),
        (lambda: BM25(["...", ""]), "not one word"),
        (lambda: BM25(["a"], k1=-1), "got -1 and 0.75"),
        (lambda: BM25(["a"], b=1.5), "got 1.2 and 1.5"),
        (lambda: BM25(["a"]).search("a", 0), "k must be at least 1, got 0"),
        (lambda: Dense([], len), "at least one text"),
        (lambda: Dense(["a", "b"], lambda texts: torch.zeros(1, 3)), "2 texts need as many vectors"),
        (lambda: recall([], []), "at least one; got 0 and 0"),
        (lambda: recall([[1]], [1, 2]), "got 1 and 2"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("+ 0.5) / (", "+ 0.5) * ("), ("b * size", "b"), ("(k1 + 1)", "k1"), ("lengths[d] / mean", "lengths[d]")],
)
def test_planted_mistakes_are_caught(right, wrong):
    source = Path(retrieval.__file__).read_text()
    code = source[source.index("import math") :]
    assert right in code
    spoiled = {"__name__": "aigc_lessons.language.retrieval"}
    exec(compile(code.replace(right, wrong), "spoiled", "exec"), spoiled)
    got = spoiled["BM25"](LIBRARY).scores("Who is the king of Tabel?")
    assert not torch.allclose(got, by_hand("Who is the king of Tabel?", LIBRARY))
