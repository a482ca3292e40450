"""Wrong ways to merge and to spell, which the checkers of lesson 30 recognise by what they give."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from aigc_lessons.language import bpe


def merged(word, pair, new):
    ids = list(word)
    bpe.merge(ids, pair, new)
    return tuple(ids)


def merge_with(count_pairs: Callable, choose: Callable, merge: Callable):
    """A wrong merge_step from its three parts."""

    def wrong(words, new):
        count = count_pairs(words)
        best = choose(count)
        return best, {merge(word, best, new): times for word, times in words.items()}

    return wrong


def pairs(words, weigh=True, apart=False):
    count = Counter()
    for word, times in words.items():
        last = None  # the pair that ends at the place before
        for pair in pairwise(word):
            last = None if apart and pair == last else pair
            count[pair] += (times if weigh else 1) * (last is not None)
    return count


def best(count):
    return min(count, key=lambda pair: (-count[pair], pair))


def first_place_only(word, pair, new):
    for i, here in enumerate(pairwise(word)):
        if here == pair:
            return (*word[:i], new, *word[i + 2 :])
    return word


def from_the_right(word, pair, new):
    return merged(word[::-1], pair[::-1], new)[::-1]


def greedy_longest(ids, new_id):
    """At each place the longest token that fits: how one would read a dictionary."""
    letters: dict[int, tuple[int, ...]] = {}

    def spelled(i):
        return letters.get(i, (i,))

    for (left, right), new in sorted(new_id.items(), key=lambda item: item[1]):
        letters[new] = (*spelled(left), *spelled(right))
    tokens, out, at = {word: new for new, word in letters.items()}, [], 0
    while at < len(ids):
        length = next((n for n in range(len(ids) - at, 1, -1) if tuple(ids[at : at + n]) in tokens), 1)
        out.append(tokens[tuple(ids[at : at + n])] if (n := length) > 1 else ids[at])
        at += length
    return out


def while_any(choose: Callable):
    """Merge one pair at a time; `choose` picks it from (id of the pair, place), in whatever wrong order."""

    def wrong(ids, new_id):
        ids = list(ids)
        while found := [(new_id[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in new_id]:
            new, i = choose(found)
            ids[i : i + 2] = [new]
        return ids

    return wrong


def once(ids, new_id):
    """One merge of the right pair, everywhere, and no further one."""
    found = [new_id[pair] for pair in pairwise(ids) if pair in new_id]
    pair_of = {new: pair for pair, new in new_id.items()}
    return list(merged(ids, pair_of[min(found)], min(found))) if found else list(ids)
