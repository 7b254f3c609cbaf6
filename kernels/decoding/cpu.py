"""Beam search on a CPU: beam_search.cpp. Graphs are arrays here, and words are numbers."""

from __future__ import annotations

from ctypes import byref, c_float, c_int64, c_void_p
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nnet.kernels.native import Address, Float, Int, NativeFunction, Struct, Table, loaded

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


class _GraphArrays(Struct):
    _fields_ = (
        ("start", c_int64),
        ("states", c_int64),
        ("state", c_void_p),
        ("arc", c_void_p),
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


class _SearchOptions(Struct):
    _fields_ = (
        ("beam", c_float),
        ("lattice_beam", c_float),
        ("beam_delta", c_float),
        ("prune_scale", c_float),
        ("max_active", c_int64),
        ("min_active", c_int64),
        ("prune_interval", c_int64),
    )


_new = NativeFunction("search_new", _GraphArrays, _SearchOptions, result=c_void_p)
_delete = NativeFunction("search_delete", Table)
_start = NativeFunction("search_start", Table, result=Int)
_advance = NativeFunction("search_advance", Table, Address, Int, Int, Float, result=Int)
_finalize = NativeFunction("search_finalize", Table, result=Int)
_tokens = NativeFunction("search_tokens", Table, result=Int)
_final_relative_cost = NativeFunction("search_final_relative_cost", Table, result=Float)
_best_path = NativeFunction("search_best_path", Table, Int, Table, result=Int)
_copy_path = NativeFunction("search_copy_path", Table, Address)
_lattice = NativeFunction("search_lattice", Table, Int, Table, result=Int)
_copy_lattice = NativeFunction("search_copy_lattice", Table, Address, Address)


def can_search() -> bool:
    """Whether there is native code that this machine can run."""
    return loaded() is not None


class NativeSearch:
    """One beam search at a time through a graph.

    Args:
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
        self._arrays = arrays  # which the search points into
        options = _SearchOptions(
            beam, lattice_beam, beam_delta, prune_scale, max_active, min_active, prune_interval
        )
        self._handle = _new(_graph(arrays), options)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            _delete(self._handle)

    def start(self) -> int:
        """Begins anew; returns a status."""
        return int(_start(self._handle))

    def advance(self, scores: Floats, scale: float) -> int:
        """Takes log-likelihoods (frames, pdfs), contiguous; returns a status."""
        frames, pdfs = scores.shape
        return int(_advance(self._handle, scores.ctypes.data, frames, pdfs, scale))

    def finalize(self) -> int:
        """Prunes with the final costs; returns a status."""
        return int(_finalize(self._handle))

    @property
    def tokens(self) -> int:
        """Tokens in the last frame."""
        return int(_tokens(self._handle))

    @property
    def final_relative_cost(self) -> float:
        """How much more the best path that ends costs than the best one; infinite if none ends."""
        return float(_final_relative_cost(self._handle))

    def best_path(self, with_final: bool) -> tuple[int, np.ndarray, float]:
        """A status, the steps of the best path so far (of type `STEP`), and its final cost."""
        final_cost = c_float()
        count = int(_best_path(self._handle, with_final, byref(final_cost)))
        steps = np.empty(max(count, 0), STEP)
        if count > 0:
            _copy_path(self._handle, steps.ctypes.data)
        return max(-count, 0), steps, final_cost.value

    def lattice(self, with_final: bool) -> tuple[int, int, np.ndarray, Floats]:
        """A status, the start state, arcs (of type `STEP`) and final costs of the states."""
        sizes = (c_int64 * 3)()
        status = int(_lattice(self._handle, with_final, sizes))
        states, count, start = sizes
        arcs, finals = np.empty(count, STEP), np.empty(states, np.float32)
        _copy_lattice(self._handle, arcs.ctypes.data, finals.ctypes.data)
        return status, start, arcs, finals


def _graph(arrays: SearchArrays) -> _GraphArrays:
    names = {"states": "state", "arcs": "arc"}
    values = {field.name: getattr(arrays, field.name) for field in fields(arrays)}
    pointers = {
        names.get(name, name): value.ctypes.data if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }
    words, contexts = arrays.words, arrays.context_words
    labels = 0
    if words is not None and contexts is not None:
        labels = 1 + max(int(words.max(initial=0)), int(contexts.max(initial=0)))
    lm_states = 0 if contexts is None else len(contexts)
    return _GraphArrays(**pointers, states=len(arrays.states), lm_states=lm_states, labels=labels)
