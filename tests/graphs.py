"""Decoding graphs and language models for tests, and OpenFst's files of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nnet.modelfile.fst import ARC, Fst
from nnet.modelfile.graph_files import STATE, DecodingGraph
from tests.support import GOLDEN

DIGITS = GOLDEN / "digits"
FST_MAGIC = 2125659606
ADDITION_MAGIC = 446681434
SYMBOLS_MAGIC = 2125658996
Context = tuple[int, ...]


def transducer(
    states: int,
    arcs: Sequence[tuple[int, int, int, float, int]],
    finals: Mapping[int, float],
    start: int = 0,
) -> Fst:
    """From arcs (state, input, output, cost, next state)."""
    ordered = sorted(arcs, key=lambda arc: arc[0])
    columns = list(zip(*ordered, strict=True)) if ordered else [()] * 5
    costs = np.full(states, np.inf, np.float32)
    for state, cost in finals.items():
        costs[state] = cost
    return Fst(
        start,
        costs,
        np.searchsorted(np.array(columns[0], np.int64), np.arange(states + 1)),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.int64),
        np.array(columns[3], np.float32),
        np.array(columns[4], np.int64),
    )


def header(
    kind: str, start: int, states: int, arcs: int, flags: int = 0, version: int = 2
) -> bytes:
    words = b"".join(struct.pack("<i", len(w)) + w.encode() for w in (kind, "standard"))
    sizes = struct.pack("<iiQqqq", version, flags, 0, start, states, arcs)
    return struct.pack("<i", FST_MAGIC) + words + sizes


def const_bytes(graph: DecodingGraph) -> bytes:
    head = header("const", graph.start, len(graph.states), len(graph.arcs))
    return head + graph.states.astype(STATE).tobytes() + graph.arcs.astype(ARC).tobytes()


def symbol_bytes(symbols: Sequence[str]) -> bytes:
    parts = [struct.pack("<iiqq", SYMBOLS_MAGIC, 0, len(symbols), len(symbols))]
    for label, symbol in enumerate(symbols):
        word = symbol.encode()
        parts.append(struct.pack("<i", len(word)) + word + struct.pack("<q", label))
    return b"".join(parts)


def reachable_words(fst: Fst, final_label: int) -> list[list[tuple[int, int]]]:
    """For each state the words that can come first, as intervals, by definition."""
    sets: list[set[int]] = [set() for _ in range(fst.num_states)]
    for state in np.flatnonzero(np.isfinite(fst.finals)).tolist():
        sets[state].add(final_label)
    while True:
        before = sum(map(len, sets))
        for source, word, following in zip(
            fst.sources.tolist(), fst.olabels.tolist(), fst.nextstates.tolist(), strict=True
        ):
            sets[source] |= {word} if word else sets[following]
        if sum(map(len, sets)) == before:
            break
    intervals = []
    for words in sets:
        begins = sorted(word for word in words if word - 1 not in words)
        ends = sorted(word + 1 for word in words if word + 1 not in words)
        intervals.append(list(zip(begins, ends, strict=True)))
    return intervals


def lookahead_bytes(fst: Fst, final_label: int) -> bytes:
    inner = const_bytes(DecodingGraph.of(fst))
    parts = [header("olabel_lookahead", -1, 0, 0, version=1), struct.pack("<i", ADDITION_MAGIC)]
    parts += [inner, b"\1\0\1", b"\0\0", struct.pack("<iq", final_label, fst.num_states)]
    for intervals in reachable_words(fst, final_label):
        parts.append(struct.pack("<q", len(intervals)))
        parts += [struct.pack("<ii", *interval) for interval in intervals]
        parts.append(struct.pack("<i", sum(end - begin for begin, end in intervals)))
    return b"".join(parts)


def ngram_bytes(
    ngrams: Mapping[Context, float],
    backoffs: Mapping[Context, float],
    finals: Mapping[Context, float],
    symbols: Sequence[str] = (),
) -> bytes:
    """A language model in OpenFst's type `ngram`.

    Args:
        ngrams: cost of each word after each context, as (context, word).
        backoffs: the contexts that are states, with back-off costs; () is one.
        finals: cost of the end after contexts.
        symbols: names of the words.
    """
    children: dict[Context, list[Context]] = {}
    for context in sorted(backoffs):
        if context:
            children.setdefault(context[1:], []).append(context)
    order: list[Context] = [()]
    for context in order:  # grows
        order += children.get(context, [])
    context_bits, future_bits, words, costs = [1, 0], [0], [], []
    for context in order:
        context_bits += [1] * len(children.get(context, [])) + [0]
        after = sorted(ngram[-1] for ngram in ngrams if ngram[:-1] == context)
        future_bits += [1] * len(after) + [0]
        words += after
        costs += [ngrams[(*context, word)] for word in after]
    is_final = [int(context in finals) for context in order]
    parts = [header("ngram", 1, len(order), 0, flags=3 if symbols else 0, version=4)]
    parts += [symbol_bytes(symbols)] * (2 if symbols else 0)
    parts.append(struct.pack("<QQQ", len(order), len(words), sum(is_final)))
    parts += [_bits(bits) for bits in (context_bits, future_bits, is_final)]
    labels = [-1, *(context[0] for context in order[1:]), 0, *words]
    parts.append(np.array(labels, "<i4").tobytes())
    backs = [np.inf, *(backoffs[context] for context in order[1:]), 0.0]
    ends = [finals[context] for context in order if context in finals]
    parts.append(np.array([*backs, *ends, *costs, 0.0], "<f4").tobytes())
    return b"".join(parts)


def _bits(bits: Sequence[int]) -> bytes:
    padded = np.zeros(-(-len(bits) // 64) * 64, np.uint8)
    padded[: len(bits)] = bits
    return np.packbits(padded, bitorder="little").tobytes()


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
