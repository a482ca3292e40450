"""Lesson 32's block, weights, operations and lens: as they should be, and with the usual mistakes."""

import math

import torch

from aigc_lessons.exercises.core import Mistake
from aigc_lessons.models import counts
from aigc_lessons.models.gpt import GPTConfig


def block(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def weights(V, T, L, C, style):
    return sum(counts.parameters(GPTConfig(V, T, L, 1, C, style=style)).values())


def operations(V, T, L, C):
    return T * (24 * L * C * C + 2 * V * C) + 4 * L * T * T * C


def _log_p(stations, W):
    x = stations / (stations.square().mean(-1, keepdim=True) + 1e-7).sqrt()
    return (x @ W.T).log_softmax(-1)  # (S, T, V)


def lens_nats(stations, W, targets):
    return -_log_p(stations, W)[:, torch.arange(len(targets)), targets].mean(-1)


def _lens(stations, W, targets, *, norm=True, axis=-1, sign=-1.0, mean=True):
    x = stations / (stations.square().mean(-1, keepdim=True) + 1e-7).sqrt() if norm else stations
    z = x @ W.T
    z = z if axis is None else z.log_softmax(axis)
    got = sign * z[:, torch.arange(len(targets)), targets]
    return got.mean(-1) if mean else got.sum(-1)


def _of_writes(stations, W, targets):
    return lens_nats(torch.cat([stations[:1], stations[1:] - stations[:-1]]), W, targets)


def _by_length(stations, W, targets):
    x = stations / stations.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return -(x @ W.T).log_softmax(-1)[:, torch.arange(len(targets)), targets].mean(-1)


def _style(gpt2, modern):
    """A wrong `weights`, from what each style has in all."""
    return lambda V, T, L, C, style: (gpt2 if style == "gpt2" else modern)(V, T, L, C)


def _kl(stations, W, targets):
    log_p = _log_p(stations, W)
    return (log_p[-1].exp() * (log_p[-1] - log_p)).sum(-1).mean(-1)


def _log_of_mean(stations, W, targets):
    return -_log_p(stations, W)[:, torch.arange(len(targets)), targets].exp().mean(-1).log()


def _one_size_for_all(stations, W, targets):
    x = stations / (stations.square().mean((-2, -1), keepdim=True) + 1e-7).sqrt()
    return _lens(x, W, targets, norm=False)


def _gpt2(V, T, L, C):
    return weights(V, T, L, C, "gpt2")


def _modern(V, T, L, C):
    return weights(V, T, L, C, "modern")


MISTAKES = {
    "32.1": [
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: norm2(
                norm1(x + attention(x)) + feed_forward(norm1(x + attention(x)))
            ),
            "That is the older order, the norm behind the sum. Here each part reads norm(x), and the stream itself stays as"
            " it is.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: feed_forward(norm2(attention(norm1(x)))),
            "The stream is gone: each part adds to x, it does not replace it.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                x + attention(norm1(x)) + feed_forward(norm1(x + attention(norm1(x))))
            ),
            "norm1 stands before both parts: the second part has a norm of its own, norm2.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + attention(norm1(x)) + feed_forward(norm2(x)),
            "The feed-forward part reads the stream from before attention wrote to it: take the new x.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + feed_forward(norm2(x + attention(norm1(x)))),
            "What attention wrote is read by the second part, but missing from the stream that comes out.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                norm1(x) + attention(norm1(x)) + feed_forward(norm2(norm1(x) + attention(norm1(x))))
            ),
            "You added to norm1(x): the norm is for the reading part only, the sum begins with x itself.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: x + attention(x) + feed_forward(x + attention(x)),
            "No part is normed: each reads norm(x).",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (
                x + feed_forward(norm2(x)) + attention(norm1(x + feed_forward(norm2(x))))
            ),
            "Attention comes first, the feed-forward part second.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: block(x, attention, feed_forward, norm2, norm1),
            "The two norms have changed places: norm1 belongs to attention, norm2 to the feed-forward part.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: feed_forward(norm2(x + attention(norm1(x)))),
            "The second sum is missing: the feed-forward part, too, adds to x.",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: block(
                x, lambda y: norm1(attention(y)), lambda y: norm2(feed_forward(y)), lambda y: y, lambda y: y
            ),
            "You normed what a part writes: norm what it reads, part(norm(x)).",
        ),
        Mistake(
            lambda x, attention, feed_forward, norm1, norm2: (y := norm2(norm1(x) + attention(norm1(x)))) + feed_forward(y),
            "You put the normed copy back into the stream: only the parts read it, each sum goes on from x itself.",
        ),
    ],
    "32.2": [
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) + V * C, _modern),
            "In GPT-2 the head is the embedding: those V C weights are counted once.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) - V * C),
            "In the modern style the head is a matrix of its own: V C more.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - 2 * C, _modern),
            "One LayerNorm is missing: besides two in each block, GPT-2 has one before the head.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - 9 * L * C, _modern),
            "GPT-2's linear layers have biases: 3 C + C + 4 C + C in each block.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - (4 * L + 2) * C, _modern),
            "GPT-2's LayerNorms have weights, a gain and a bias for each of the C channels.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) + 9 * L * C),
            "The modern style has no biases.",
        ),
        Mistake(
            _style(_gpt2, lambda V, T, L, C: _modern(V, T, L, C) + T * C),
            "The modern style has no table of positions: it turns queries and keys, and turning has no weights.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - T * C, _modern),
            "GPT-2 learns a vector for each of its T positions.",
        ),
        Mistake(
            _style(_gpt2, _gpt2),
            "That is GPT-2 for both styles. Modern: no positions, no biases, norms without weights, a head of its own.",
        ),
        Mistake(
            lambda V, T, L, C, style: weights(V, T, 1, C, style),
            "That is a network of one block: there are L.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - 13 * L * C, _modern),
            "The last column of the table is missing: 13 C biases and gains in each block of GPT-2.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - (2 * L + 1) * C, _modern),
            "A LayerNorm has 2 C weights, a gain and a bias for each channel.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) - C, _modern),
            "The last LayerNorm has 2 C weights, a gain and a bias for each channel.",
        ),
        Mistake(
            _style(lambda V, T, L, C: _gpt2(V, T, L, C) + V, _modern),
            "The head has no biases: it is the embedding and nothing else.",
        ),
        *(
            Mistake(
                _style(_gpt2, lambda V, T, L, C, more=more: _modern(V, T, L, C) + more(L) * C),
                "Of the modern blocks only the matrices are left, 12 C^2: no biases, and norms without weights.",
            )
            for more in (lambda L: 13 * L, lambda L: 13 * L + 2, lambda L: 4 * L + 2, lambda L: 2 * L + 1)
        ),
    ],
    "32.3": [
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) / 2,
            "You counted multiplications: each comes with an addition, which makes two operations.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 4 * L * T * T * C,
            "The attention itself is missing: T^2 scores and T^2 weighted values in each block, 2 C operations each.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * L * T * T * C,
            "Half of attention is missing. Scores and weighted sums cost 2 T^2 C each; and the masked scores count, they are"
            " computed like the others.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * T * V * C,
            "The head is missing. It shares its weights with the embedding, but it is a product of matrices all the same.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) + 2 * T * V * C,
            "The embedding looks up a row: that takes no multiplication.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) / T,
            "That is for one token of the window: the exercise asks for the window.",
        ),
        Mistake(
            lambda V, T, L, C: 3 * operations(V, T, L, C),
            "That is a training step, forwards and backwards: the exercise asks for reading.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, 1, C),
            "That is a network of one block: there are L.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 4 * (L - 1) * T * T * C,
            "Scores and weighted sums are computed in each of the L blocks; you counted them once.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * L * T * (T - 1) * C,
            "You left out the scores that the mask hides: here they are computed like the others, and count.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) - 2 * (T - 1) * V * C,
            "The head reads all T places, not the last one alone.",
        ),
        Mistake(
            lambda V, T, L, C: operations(V, T, L, C) + 2 * T * T * C,
            "A position is looked up and added: that takes no multiplication.",
        ),
        Mistake(
            lambda V, T, L, C: 2 * T * _gpt2(V, T, L, C),
            "That is two for every weight and token. Positions, biases and gains multiply no matrix, and attention's two"
            " products without weights are missing.",
        ),
    ],
    "32.4": [
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, norm=False),
            "The head never sees the bare stream: bring each vector to root mean square 1 first.",
        ),
        Mistake(_by_length, "You divided by the length. RMSNorm divides by the root of the *mean* square: sqrt(C) larger."),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=1),
            "The probabilities must sum to 1 over the vocabulary (the last axis), not over the positions.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=0),
            "The probabilities must sum to 1 over the vocabulary (the last axis), not over the stations.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, axis=None),
            "Those are logits: log_softmax makes logarithms of probabilities of them.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, sign=1.0),
            "The sign is turned round: a logarithm of a probability is negative, a surprise is not.",
        ),
        Mistake(
            lambda stations, W, targets: _lens(stations, W, targets, mean=False),
            "That is the sum over the positions: the exercise asks for the mean.",
        ),
        Mistake(
            _of_writes, "That is the lens on what each part *wrote*: the head reads the sum so far, the station itself."
        ),
        Mistake(
            lambda stations, W, targets: lens_nats(stations - stations.mean(-1, keepdim=True), W, targets),
            "That is LayerNorm: the modern norm subtracts no mean.",
        ),
        Mistake(_one_size_for_all, "Each position is normed by itself: the mean square is over the last axis alone."),
        Mistake(
            lambda stations, W, targets: lens_nats(stations, W, targets) / math.log(2),
            "Those are bits: the exercise asks for nats.",
        ),
        Mistake(
            lambda stations, W, targets: lens_nats(stations[:, :-1], W, targets[1:]),
            "You shifted once more: targets[t] is already what comes after position t.",
        ),
        Mistake(_kl, "That is the distance from the last station: the exercise asks for the surprise of what really comes."),
        Mistake(
            _log_of_mean, "You averaged probabilities, then took the logarithm: the mean of the logarithms is asked for."
        ),
    ],
}
