"""Text to numbers and back: one id a character, or byte-pair encoding (BPE) as GPT-2 does it.

The algorithm of BPE is in `language.bpe`; here is what a user needs around it: special tokens, decoding, a file.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import SupportsIndex

import regex

from aigc_lessons.data.files import scratch_folder
from aigc_lessons.language import bpe
from aigc_lessons.language.bpe import GPT2_PATTERN

FORMAT = "aigc-lessons BPE 1"
MEMORY = 1 << 17  # words whose spelling is remembered; a book has about 30,000 different ones


class TokenizerError(RuntimeError):
    """A tokenizer's file is missing, damaged or of another kind; the message says what to do."""


class CharTokenizer:
    """One id for each character, in the order of `characters`."""

    def __init__(self, characters: str):
        """
        Args:
            characters: the vocabulary; character number i has the id i.
        Raises: ValueError if it is empty or a character comes twice.
        """
        if not characters:
            raise ValueError("a vocabulary needs at least one character, got an empty text")
        if twice := [character for character, n in Counter(characters).items() if n > 1]:
            raise ValueError(f"each character may stand in the vocabulary once; {twice[0]!r} comes twice")
        self.characters = characters
        self._ids = {character: i for i, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text: str) -> "CharTokenizer":
        """The characters that occur in `text`, sorted by code point. Raises ValueError if it is empty."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Raises ValueError naming the first character that is not in the vocabulary, and its position (from 0)."""
        ids = self._ids
        try:
            return [ids[character] for character in text]
        except KeyError as error:
            (unknown,) = error.args
            raise ValueError(
                f"{unknown!r} (U+{ord(unknown):04X}) at position {text.index(unknown)} is not among the"
                f" {self.vocab_size} characters of this vocabulary"
            ) from None

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Ids (a list or a one-dimensional tensor) to text. Raises ValueError naming an id outside the vocabulary."""
        return "".join(map(self.characters.__getitem__, _checked_ids(ids, self.vocab_size)))

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters)"


class BPETokenizer:
    """Byte-level byte-pair encoding, with GPT-2's way of cutting text into words.

    The ids: 0..255 are the bytes (in bpe.BYTE_ORDER), then comes one for each merge in the order learned, then the special
    tokens. Attributes: ranks, bytes -> id without the special tokens; special_tokens, text -> id; merges, pairs of ids;
    pattern.
    Source: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (GPT-2).
    """

    def __init__(self, merges: Sequence[bpe.Pair], pattern: str = GPT2_PATTERN, special_tokens: Sequence[str] = ()):
        """
        Args:
            merges: pair number k becomes the id 256 + k, and is made of two lower ids.
            pattern, special_tokens: as for `train`.
        Raises: ValueError naming what is wrong with which merge, the pattern or the special tokens.
        """
        bpe.compiled(pattern)
        self.pattern, self.merges = pattern, list(merges)
        self._bytes = [bytes([byte]) for byte in bpe.BYTE_ORDER]  # by id
        for new, (left, right) in enumerate(self.merges, start=256):
            if not (0 <= left < new and 0 <= right < new):
                raise ValueError(f"merge {new - 256} joins ids {left} and {right}, but only 0..{new - 1} exist by then")
            self._bytes.append(self._bytes[left] + self._bytes[right])
        self.ranks = {token: i for i, token in enumerate(self._bytes)}
        if len(self.ranks) < len(self._bytes):
            twice = next(token for i, token in enumerate(self._bytes) if self.ranks[token] != i)
            raise ValueError(f"two merges make the same token {twice!r}")
        self.special_tokens = {name: len(self._bytes) + i for i, name in enumerate(_checked_special(special_tokens))}
        self._bytes += [name.encode() for name in self.special_tokens]
        self._spelling = _Spelling({pair: 256 + k for k, pair in enumerate(self.merges)})

    @classmethod
    def train(
        cls, text: str, vocab_size: int, pattern: str = GPT2_PATTERN, special_tokens: Sequence[str] = ()
    ) -> "BPETokenizer":
        """Learn vocab_size - 256 - len(special_tokens) merges from `text`.

        Args:
            vocab_size:     how many ids there will be, special tokens included.
            pattern:        regular expression (of the package `regex`); its matches are the words, no merge joins two.
            special_tokens: texts with an id of their own. They do not count as such in the training text.
        Raises: ValueError if the text is empty or not valid Unicode, vocab_size is too small or larger than the text
            supports (it says how many are possible), the pattern leaves characters out, a special token is empty or double.
        """
        special_tokens = _checked_special(special_tokens)
        if not text:
            raise ValueError("there is nothing to learn from: the text is empty")
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise ValueError(
                f"vocab_size must be at least {least} (256 bytes and {len(special_tokens)} special tokens), got {vocab_size}"
            )
        merges = bpe.learn_merges(Counter(bpe.split(text, pattern)), vocab_size - least)
        if least + len(merges) < vocab_size:
            raise ValueError(
                f"this text supports at most {least + len(merges)} ids, got vocab_size = {vocab_size}:"
                f" after {len(merges)} merges every word is one token. Ask for fewer, or give more text"
            )
        return cls(merges, pattern, special_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """Text to ids.

        A special token inside the text is spelled like any other text, so that nobody can smuggle one in, unless it is
        named in `allowed_special`. Where two named ones begin at the same place, the longer one is meant.

        Raises: ValueError for a name that is no special token of this tokenizer, or text that is not valid Unicode.
        """
        if isinstance(allowed_special, str):
            raise ValueError(f"allowed_special is a collection of names: write [{allowed_special!r}]")
        if unknown := [name for name in allowed_special if name not in self.special_tokens]:
            raise ValueError(f"{unknown[0]!r} is not a special token here; there are: {[*self.special_tokens] or 'none'}")
        if not allowed_special:
            return self._encode_ordinary(text)
        bpe.check_unicode(text)
        longest_first = sorted(allowed_special, key=len, reverse=True)
        pieces = regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text)
        ids = self._encode_ordinary(pieces[0])
        for special, ordinary in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += [self.special_tokens[special], *self._encode_ordinary(ordinary)]
        return ids

    def _encode_ordinary(self, text: str) -> list[int]:
        return [i for word in bpe.split(text, self.pattern) for i in self._spelling[word]]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Ids (a list or a one-dimensional tensor) to text.

        An id may hold a part of a character (most Chinese characters are three bytes): bytes that are not valid UTF-8
        become U+FFFD, the replacement character. `decode_bytes` loses nothing.

        Raises: ValueError naming an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[SupportsIndex]) -> bytes:
        """The exact bytes of the ids; for whole characters they are UTF-8. Raises as `decode` does."""
        return b"".join(map(self._bytes.__getitem__, _checked_ids(ids, self.vocab_size)))

    def save(self, path: str | os.PathLike) -> Path:
        """Write a JSON file, in one step: at any moment `path` holds a whole tokenizer, or what it held before."""
        path = Path(path)
        document = {"pattern": self.pattern, "merges": self.merges, "special_tokens": [*self.special_tokens]}
        with scratch_folder(path.parent, prefix=f".{path.name}-") as scratch:
            fresh = scratch / "fresh.json"
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "sha256": _digest(document), **document}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> "BPETokenizer":
        """The tokenizer that `save` wrote. Raises TokenizerError if there is none, it is damaged or of another kind."""
        path = Path(path)
        if not path.is_file():
            raise TokenizerError(f"there is no tokenizer at {path}; make one with BPETokenizer.train(...).save(path)")
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise TokenizerError(f"{path} is damaged, cut short or not a tokenizer: it is not JSON ({error})") from None
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise TokenizerError(f"{path} was not written by BPETokenizer.save: it does not say {FORMAT!r}")
        if document.pop("sha256", None) != _digest(document):
            raise TokenizerError(f"{path} is damaged: its contents do not match their SHA-256. Train and save it again")
        try:
            return cls(**document | {"merges": [(left, right) for left, right in document["merges"]]})
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"{path} does not describe a tokenizer: {error}") from None

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size} ids, special tokens: {[*self.special_tokens] or 'none'})"


class _Spelling(dict):
    """word -> ids, worked out when first asked for."""

    def __init__(self, new_id: Mapping[bpe.Pair, int]):
        self.new_id = new_id

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= MEMORY:
            self.clear()
        self[word] = ids = bpe.apply_merges(bpe.byte_ids(word), self.new_id)
        return ids


def _checked_special(names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise ValueError(f"special_tokens is a collection of texts: write [{names!r}]")
    for name, n in Counter(names).items():
        if not name or n > 1:
            raise ValueError(f"a special token must be some text and come once; got {name!r} {n} times")
        bpe.check_unicode(name)
    return list(names)


def _checked_ids(ids: Iterable[SupportsIndex], vocab_size: int) -> list[int]:
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        ids = [index(i) for i in ids]
    except TypeError:
        raise ValueError(f"ids must be a flat list of whole numbers, got {str(ids)[:60]}") from None
    for position, i in enumerate(ids):
        if not 0 <= i < vocab_size:
            raise ValueError(f"id {i} at position {position} is outside the vocabulary, 0..{vocab_size - 1}")
    return ids


def _digest(document: dict) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
