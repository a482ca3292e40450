"""Tokenizers saved and read again, and the tokenizer of characters."""

import json
import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lessons.language import tokenizer
from aigc_lessons.language.tokenizer import GPT2_PATTERN, BPETokenizer, CharTokenizer, TokenizerError

SPECIAL = ("<|end|>", "<|end|>!", "<|user|>")
# unassigned code points are left out: whether they are letters depends on how new the Unicode tables of a library are
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)
# few characters, so that pairs tie, overlap and come back
NARROW_TEXT = st.text(st.sampled_from("ab é中\n'1"), min_size=1, max_size=60)


def test_a_saved_tokenizer_comes_back_exactly(mixed, tmp_path):
    path = mixed.save(tmp_path / "new folder" / "bpe.json")
    back = BPETokenizer.load(path)
    for name in ("merges", "ranks", "pattern", "special_tokens", "vocab_size"):
        assert getattr(back, name) == getattr(mixed, name)
    text = "Ein Text, 一段文字 🙂<|end|>"
    assert back.encode(text, ["<|end|>"]) == mixed.encode(text, ["<|end|>"])
    assert [*path.parent.iterdir()] == [path]
    assert back.save(tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_failed_save_leaves_the_old_file(mixed, tmp_path, monkeypatch):
    path = BPETokenizer.train("text", 257).save(tmp_path / "bpe.json")
    before = path.read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, full)
        with pytest.raises(OSError, match="No space"):
            mixed.save(path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert [*tmp_path.iterdir()] == [path]


def test_a_damaged_file_is_noticed(tmp_path):
    path = BPETokenizer.train("text and text", 260, special_tokens=("<a>",)).save(tmp_path / "bpe.json")
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(TokenizerError, match=r"damaged, cut short"):
            BPETokenizer.load(path)
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        with pytest.raises(TokenizerError, match=r"damaged|not written by"):
            BPETokenizer.load(path)


FOREIGN = [b"", b"[]", b'"text"', b"{}", b'{"model": {}}', b"\xff\xfe", b"[" * 100_000, pickle.dumps([])]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_file_is_refused(tmp_path, foreign):
    path = tmp_path / "foreign.json"
    path.write_bytes(foreign)
    with pytest.raises(TokenizerError, match=r"foreign\.json"):
        BPETokenizer.load(path)


def test_a_file_that_describes_no_tokenizer_is_refused(tmp_path):
    """Even with the right hash: nothing that a constructor would refuse comes in through a file."""
    for wrong in ({"merges": [[0, 999]]}, {"merges": []} | {"more": 1}, {"merges": 5}):
        document = {"pattern": GPT2_PATTERN, "special_tokens": []} | wrong
        head = {"format": tokenizer.FORMAT, "sha256": tokenizer._digest(document)}
        (tmp_path / "forged.json").write_text(json.dumps(head | document))
        with pytest.raises(TokenizerError, match="does not describe a tokenizer"):
            BPETokenizer.load(tmp_path / "forged.json")


def test_a_missing_file_says_what_to_do(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(TokenizerError, match=r"no tokenizer at .*\.save\(path\)"):
            BPETokenizer.load(path)


# characters


@given(st.text(min_size=1))
def test_characters_round_trip(text):
    characters = CharTokenizer.from_text(text)
    ids = characters.encode(text)
    assert characters.decode(ids) == characters.decode(torch.tensor(ids)) == text
    assert sorted(set(ids)) == list(range(characters.vocab_size))


def test_characters_are_sorted():
    characters = CharTokenizer.from_text("hello")
    assert characters.characters == "ehlo"
    assert characters.encode("hole") == [1, 3, 2, 0]
    assert repr(characters) == "CharTokenizer(4 characters)"


def test_unknown_characters_are_named():
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 3 is not among the 4 characters"):
        CharTokenizer.from_text("hello").encode("helé")
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer.from_text("")
    with pytest.raises(ValueError, match="'l' comes twice"):
        CharTokenizer("hello")
