"""Merges against the trainer of `tokenizers`, ids against tiktoken, and every way in which a text or a file can be wrong."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import tiktoken
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_typing import unchecked

from aigc_lessons.language import bpe, tokenizer
from aigc_lessons.language.tokenizer import BPETokenizer, CharTokenizer

SPECIAL = ("<|end|>", "<|end|>!", "<|user|>")
# unassigned code points are left out: whether they are letters depends on how new the Unicode tables of a library are
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)
# few characters, so that pairs tie, overlap and come back
NARROW_TEXT = st.text(st.sampled_from("ab é中\n'1"), min_size=1, max_size=60)


def as_tiktoken(ours):
    return tiktoken.Encoding("ours", pat_str=ours.pattern, mergeable_ranks=ours.ranks, special_tokens=ours.special_tokens)


def peer_merges(text, vocab_size):
    """Pairs of byte strings, as the `tokenizers` library learns them."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    peer.train_from_iterator([text], trainer)
    byte_of = dict(zip(sorted(alphabet), bpe.BYTE_ORDER, strict=True))
    merges = json.loads(peer.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[sign] for sign in half) for half in pair) for pair in merges]


def as_bytes(merges):
    spelled = [bytes([byte]) for byte in bpe.BYTE_ORDER]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    return [(spelled[left], spelled[right]) for left, right in merges]


def slow_merges(text, n, best):
    """The definition: count everything again before every merge."""
    words = [(bpe.byte_ids(word), times) for word, times in Counter(bpe.split(text)).items()]
    merges = []
    while len(merges) < n:
        count = Counter()
        for ids, times in words:
            for pair in pairwise(ids):
                count[pair] += times
        if not count:
            break
        merges.append(best(count))
        for ids, _ in words:
            bpe.merge(ids, merges[-1], 255 + len(merges))
    return merges


def most_frequent_then_smallest(count):
    return min(count, key=lambda pair: (-count[pair], pair))


@pytest.mark.parametrize("kind", ["English", "Chinese", "code", "emoji"])
def test_merges_equal_the_tokenizers_library(corpora, kind):
    theirs = peer_merges(corpora[kind], 2048)
    assert as_bytes(BPETokenizer.train(corpora[kind], 2048).merges) == theirs
    assert len(theirs) == 2048 - 256


@settings(max_examples=150, deadline=None)
@given(NARROW_TEXT)
def test_merges_equal_on_ties_and_overlaps(text):
    """Every merge that the text allows: most of them are ties."""
    ours = bpe.learn_merges(Counter(bpe.split(text)), 1000)
    assert as_bytes(ours) == peer_merges(text, 1256)
    assert ours == slow_merges(text, 1000, most_frequent_then_smallest)


def test_the_comparison_of_merges_can_fail(corpora, monkeypatch):
    """Caught: ties to the largest pair, bytes in the order 0..255, words counted once however often they occur."""
    text = corpora["English"][:20_000]
    theirs = peer_merges(text, 400)
    assert as_bytes(slow_merges(text, 144, most_frequent_then_smallest)) == theirs
    assert as_bytes(slow_merges(text, 144, lambda count: max(count, key=lambda pair: (count[pair], pair)))) != theirs
    assert as_bytes(bpe.learn_merges(dict.fromkeys(bpe.split(text), 1), 144)) != theirs
    monkeypatch.setattr(bpe, "BYTE_ORDER", range(256))
    monkeypatch.setattr(bpe, "_ID_OF_BYTE", range(256))
    assert as_bytes(BPETokenizer.train(text, 400).merges) != theirs


@pytest.mark.parametrize("kind", ["English", "Chinese", "code", "emoji"])
def test_ids_equal_tiktoken_on_real_text(corpora, mixed, kind):
    text = corpora[kind]
    ids = mixed.encode(text)
    assert ids == as_tiktoken(mixed).encode_ordinary(text)
    assert mixed.decode(ids) == text
    assert mixed.decode_bytes(ids) == text.encode()


def test_the_real_text_is_more_than_a_megabyte(corpora):
    assert sum(len(text.encode()) for text in corpora.values()) > 1_000_000


@settings(max_examples=500, deadline=None)
@given(st.lists(ANY_TEXT | NARROW_TEXT, min_size=20, max_size=20))
def test_ids_equal_tiktoken_on_any_text(mixed, texts):
    """10,000 strings."""
    assert [mixed.encode(text) for text in texts] == as_tiktoken(mixed).encode_ordinary_batch(texts, num_threads=1)
    assert [mixed.decode(mixed.encode(text)) for text in texts] == texts


def test_the_comparison_of_ids_can_fail(corpora, mixed):
    """The longest token first, in place of the earliest merge, gives other ids."""

    def longest_first(word):
        word, ids = word.encode(), []
        while word:
            size = next(n for n in range(len(word), 0, -1) if word[:n] in mixed.ranks)
            ids.append(mixed.ranks[word[:size]])
            word = word[size:]
        return ids

    words = bpe.split(corpora["English"])
    assert [i for word in words for i in longest_first(word)] != as_tiktoken(mixed).encode_ordinary(corpora["English"])


def test_a_hundred_thousand_letters_without_a_space(mixed):
    text = "".join(random.Random(0).choices("etaoinshr", k=100_000))
    assert mixed.encode(text) == as_tiktoken(mixed).encode_ordinary(text)
    assert mixed.decode(mixed.encode("a" * 100_000)) == "a" * 100_000


def test_memory_is_bounded(corpora, mixed, monkeypatch):
    monkeypatch.setattr(tokenizer, "MEMORY", 50)
    small = BPETokenizer(mixed.merges, special_tokens=SPECIAL)
    text = corpora["English"][:20_000]
    assert small.encode(text) == mixed.encode(text)
    assert len(small._spelling) <= 50


def test_ids_come_in_the_promised_order(mixed):
    assert mixed.vocab_size == 3000
    assert [mixed.ranks[bytes([byte])] for byte in bpe.BYTE_ORDER] == list(range(256))
    assert list(mixed.ranks.values()) == list(range(2997))
    assert mixed.special_tokens == {"<|end|>": 2997, "<|end|>!": 2998, "<|user|>": 2999}
    assert mixed.encode("!A") == [0, 32]


def test_text_is_cut_as_gpt2_cuts_it():
    assert bpe.split("It's 2 pm!") == ["It", "'s", " 2", " pm", "!"]
    assert bpe.split("a  b\n\n c ") == ["a", " ", " b", "\n\n", " c", " "]


@given(st.lists(st.integers(1, 3), max_size=12), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_merge_says_which_neighbours_changed(ids, pair):
    before, merged = Counter(pairwise(ids)), list(ids)
    changed = bpe.merge(merged, pair, 9)
    text = "".join(map(str, ids)).replace(f"{pair[0]}{pair[1]}", "9")  # str.replace too goes from the left
    assert merged == [int(sign) for sign in text]
    for gone, seen in changed:
        before[gone] -= 1
        before[seen] += 1
    after = Counter(pairwise(merged))
    assert {p: n for p, n in before.items() if n and p != pair} == {p: n for p, n in after.items() if p != pair}
    assert bpe.merge([1, 1, 1, 2], (1, 1), 9) == [((1, 1), (9, 1))]


def test_no_merge_joins_two_words():
    assert not any(b" " in token[1:] for token in BPETokenizer.train("to be or not to be to be " * 9, 264).ranks)
    joined = BPETokenizer.train("to be or not to be to be " * 9, 264, pattern="(?s).+")
    assert any(b" " in token[1:] for token in joined.ranks)


# special tokens


def test_special_tokens_in_the_text_are_not_obeyed(mixed):
    text = "ignore this <|end|><|user|> and that"
    assert max(mixed.encode(text)) < 2997
    assert mixed.decode(mixed.encode(text)) == text


def test_special_tokens_are_obeyed_where_allowed(mixed):
    text = "<|user|>To be<|end|>, or not<|user|>"
    peer = as_tiktoken(mixed)
    for allowed in [{"<|user|>"}, {"<|end|>"}, {"<|end|>", "<|user|>"}]:
        ids = mixed.encode(text, allowed_special=allowed)
        assert ids == peer.encode(text, allowed_special=allowed, disallowed_special=())
        assert mixed.decode(ids) == text
    assert mixed.encode("<|end|>!", SPECIAL) == [2998]  # the longer one
    assert mixed.encode("<|end|>!", ["<|end|>"]) == [2997, *mixed.encode("!")]
    assert mixed.encode("", SPECIAL) == []


def test_bad_special_tokens_are_named(mixed):
    for wrong in (["<a>", "<a>"], [""], ["\ud800"]):
        with pytest.raises(ValueError, match=r"come once|not valid Unicode"):
            BPETokenizer.train("some text", 270, special_tokens=wrong)
    with pytest.raises(ValueError, match=r"write \['<a>'\]"):
        BPETokenizer.train("some text", 270, special_tokens="<a>")
    with pytest.raises(ValueError, match=r"write \['<.end.>'\]"):
        mixed.encode("text", allowed_special="<|end|>")
    with pytest.raises(ValueError, match=r"'<s>' is not a special token here; there are: \['<.end.>'"):
        mixed.encode("text", allowed_special={"<s>"})


# what a learner may do wrong


def test_bad_training_is_named():
    with pytest.raises(ValueError, match="text is empty"):
        BPETokenizer.train("", 300)
    with pytest.raises(ValueError, match=r"at least 258 \(256 bytes and 2 special tokens\), got 257"):
        BPETokenizer.train("text", 257, special_tokens=("<a>", "<b>"))
    with pytest.raises(ValueError, match=r"at most 260 ids, got vocab_size = 261: after 3 merges"):
        BPETokenizer.train("text", 261, special_tokens=("<a>",))
    assert BPETokenizer.train("text", 260, special_tokens=("<a>",)).encode("text") == [258]
    assert BPETokenizer.train("text", 256).merges == []


def test_bad_patterns_are_named():
    with pytest.raises(ValueError, match="not a regular expression"):
        BPETokenizer.train("text", 257, pattern="(")
    with pytest.raises(ValueError, match=r"1 capturing groups: write \(\?:"):
        BPETokenizer.train("text", 257, pattern=r"(\w+)|\W+")
    with pytest.raises(ValueError, match=r"leaves out '!' at position 4"):
        BPETokenizer.train("text! text?", 257, pattern=r"\w+|\s+")


def test_bad_merges_are_named():
    with pytest.raises(ValueError, match=r"merge 1 joins ids 3 and 257, but only 0\.\.256 exist"):
        BPETokenizer([(1, 2), (3, 257)])
    with pytest.raises(ValueError, match=r"same token b'\"\"\"'"):
        BPETokenizer([(1, 1), (256, 1), (1, 256)])


def test_lone_surrogates_are_named(mixed):
    for call in (mixed.encode, lambda text: mixed.encode(text, SPECIAL), lambda text: BPETokenizer.train(text, 257)):
        with pytest.raises(ValueError, match=r"lone surrogate U\+D83D at position 3"):
            call("abc\ud83d")


@pytest.mark.parametrize("wrong", [-1, 3000, 10**9])
def test_ids_outside_the_vocabulary_are_named(mixed, wrong):
    with pytest.raises(ValueError, match=rf"id {wrong} at position 1 is outside the vocabulary, 0\.\.2999"):
        mixed.decode([0, wrong])
    with pytest.raises(ValueError, match=rf"id {wrong} at position 1 is outside the vocabulary, 0\.\.1"):
        CharTokenizer("ab").decode([0, wrong])


def test_ids_that_are_no_numbers_are_named():
    for wrong in ([0.5], [[1, 2]], torch.zeros(1, 2, dtype=torch.long), torch.zeros(2), torch.tensor(3)):
        with pytest.raises(ValueError, match="flat list of whole numbers"):
            unchecked(tokenizer._checked_ids)(wrong, 3000)


def test_half_a_character_becomes_the_replacement_character(mixed):
    ids = [bpe.BYTE_ORDER.index(byte) for byte in "中a".encode()]
    assert mixed.decode(ids) == "中a"
    assert mixed.decode(ids[:2]) == "\ufffd"
    assert mixed.decode(ids[2:]) == "\ufffda"
    assert mixed.decode_bytes(ids[:2]) == "中".encode()[:2]


def test_tensors_can_be_decoded(mixed):
    ids = mixed.encode("To be, or not to be")
    assert mixed.decode(torch.tensor(ids)) == mixed.decode(iter(ids)) == mixed.decode([*torch.tensor(ids)])
    assert mixed.decode([]) == ""


# files
