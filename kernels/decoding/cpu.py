"""Beam search on a CPU: beam_search_cpu.cpp. Graphs are arrays here, and words are numbers."""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nnet.kernels.native import native_library

Floats = NDArray[np.float32]

STEP = np.dtype(
    [
        ("source", "<i4"),
        ("target", "<i4"),
        ("ilabel", "<i4"),
        ("olabel", "<i4"),
        ("graph_cost", "<f4"),
        ("acoustic_cost", "<f4"),
    ]
)
"""An arc of a lattice; `source` and `target` have no meaning in a single path."""
FINE, NO_TOKENS, ENDLESS, CYCLE = range(4)


@dataclass(frozen=True, eq=False)
class SearchArrays:
    """A graph, and a language model to compose it with where `firsts` is given.

    All indices in them must have been checked. What is not said here is said by
    nnet.modelfile.graph_files, lookahead and ngram_fst.

    Args:
        start: the start state.
        states: states in the layout of OpenFst's const type.
        arcs: arcs, likewise.
        pdfs: int32, for each input label its column of the scores; -1 if it takes no frame.
        firsts: where the intervals of each state begin, int64 (states + 1,).
        intervals: words that can be read, int32 (intervals, 2).
        final_label: what stands for the end among them.
        lm_start: the start state of the language model.
        backoff_states: of the language model, and so on.
    """

    start: int
    states: np.ndarray
    arcs: np.ndarray
    pdfs: NDArray[np.int32]
    firsts: NDArray[np.int64] | None = None
    intervals: NDArray[np.int32] | None = None
    final_label: int = 0
    lm_start: int = 0
    backoff_states: NDArray[np.int32] | None = None
    backoff_costs: Floats | None = None
    context_words: NDArray[np.int32] | None = None
    first_children: NDArray[np.int64] | None = None
    first_words: NDArray[np.int64] | None = None
    words: NDArray[np.int32] | None = None
    costs: Floats | None = None
    final_costs: Floats | None = None


class _Graph(Structure):
    _fields_ = (
        ("start", c_int64),
        ("num_states", c_int64),
        ("states", c_void_p),
        ("arcs", c_void_p),
        ("pdfs", c_void_p),
        ("firsts", c_void_p),
        ("intervals", c_void_p),
        ("final_label", c_int64),
        ("lm_start", c_int64),
        ("lm_states", c_int64),
        ("labels", c_int64),
        ("backoff_states", c_void_p),
        ("backoff_costs", c_void_p),
        ("context_words", c_void_p),
        ("first_children", c_void_p),
        ("first_words", c_void_p),
        ("words", c_void_p),
        ("costs", c_void_p),
        ("final_costs", c_void_p),
    )


class _Options(Structure):
    _fields_ = (
        ("beam", c_float),
        ("lattice_beam", c_float),
        ("beam_delta", c_float),
        ("prune_scale", c_float),
        ("max_active", c_int64),
        ("min_active", c_int64),
        ("prune_interval", c_int64),
    )


def decoding_library() -> ctypes.CDLL | None:
    """The compiled search; None without a C++ compiler."""
    library = native_library("beam_search_cpu")
    if library is None:
        return None
    library.search_new.restype = c_void_p
    library.search_final_relative_cost.restype = c_float
    for name in ("advance", "start", "finalize", "tokens", "best_path", "lattice"):
        getattr(library, f"search_{name}").restype = c_int64
    return library


class NativeSearch:
    """One beam search at a time through a graph.

    Args:
        library: what `decoding_library` gives.
        arrays: the graph; it is not copied.
        beam: how much more than the cheapest a path may cost, in nats.
        lattice_beam: the same in the lattice.
        max_active: how many tokens a frame may have.
        min_active: how many it keeps at least.
        prune_interval: frames between prunings of the lattice.
        beam_delta: added to beams that were narrowed, Kaldi's option.
        prune_scale: how exactly the lattice is pruned on the way, Kaldi's option.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        arrays: SearchArrays,
        *,
        beam: float,
        lattice_beam: float,
        max_active: int,
        min_active: int,
        prune_interval: int,
        beam_delta: float,
        prune_scale: float,
    ) -> None:
        self._library = library
        self._arrays = arrays  # which the search points into
        options = _Options(
            beam, lattice_beam, beam_delta, prune_scale, max_active, min_active, prune_interval
        )
        graph = _graph(arrays)
        self._handle = c_void_p(library.search_new(byref(graph), byref(options)))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.search_delete(self._handle)

    def start(self) -> int:
        """Begins anew; returns a status."""
        return self._library.search_start(self._handle)

    def advance(self, scores: Floats, scale: float) -> int:
        """Takes log-likelihoods (frames, pdfs), contiguous; returns a status."""
        frames, pdfs = scores.shape
        return self._library.search_advance(
            self._handle,
            c_void_p(scores.ctypes.data),
            c_int64(frames),
            c_int64(pdfs),
            c_float(scale),
        )

    def finalize(self) -> int:
        """Prunes with the final costs; returns a status."""
        return self._library.search_finalize(self._handle)

    @property
    def tokens(self) -> int:
        """Tokens in the last frame."""
        return self._library.search_tokens(self._handle)

    @property
    def final_relative_cost(self) -> float:
        """How much more the best path that ends costs than the best one; infinite if none ends."""
        return self._library.search_final_relative_cost(self._handle)

    def best_path(self, with_final: bool) -> tuple[int, np.ndarray, float]:
        """A status, the steps of the best path so far (of type `STEP`), and its final cost."""
        final_cost = c_float()
        count = self._library.search_best_path(self._handle, c_int64(with_final), byref(final_cost))
        steps = np.empty(max(count, 0), STEP)
        if count > 0:
            self._library.search_copy_path(self._handle, c_void_p(steps.ctypes.data))
        return max(-count, 0), steps, final_cost.value

    def lattice(self, with_final: bool) -> tuple[int, int, np.ndarray, Floats]:
        """A status, the start state, arcs (of type `STEP`) and final costs of the states."""
        sizes = (c_int64 * 3)()
        status = self._library.search_lattice(self._handle, c_int64(with_final), sizes)
        states, count, start = sizes
        arcs, finals = np.empty(count, STEP), np.empty(states, np.float32)
        self._library.search_copy_lattice(
            self._handle, c_void_p(arcs.ctypes.data), c_void_p(finals.ctypes.data)
        )
        return status, start, arcs, finals


def _graph(arrays: SearchArrays) -> _Graph:
    values = {field.name: getattr(arrays, field.name) for field in fields(arrays)}
    pointers = {
        name: value.ctypes.data if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    words, contexts = arrays.words, arrays.context_words
    labels = 0
    if words is not None and contexts is not None:
        labels = 1 + max(int(words.max(initial=0)), int(contexts.max(initial=0)))
    lm_states = 0 if contexts is None else len(contexts)
    return _Graph(**pointers, num_states=len(arrays.states), lm_states=lm_states, labels=labels)
