"""Operations on transducers that kaldifst has: composition, determinization, minimization."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nnet.errors import NnetError
from nnet.fst.transducers import sorted_arcs
from nnet.modelfile.fst import Fst, read_fst_file, write_fst_file

Windows = list[list[int]]


def _kaldifst() -> ModuleType:
    try:
        import kaldifst
    except ImportError:
        raise NnetError(
            "graphs are built with the package kaldifst, which is not installed; run: "
            "pip install 'nnet[speech]'"
        ) from None
    return kaldifst


def _theirs(fst: Fst) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fst"
        write_fst_file(fst, path)
        return _kaldifst().StdVectorFst.read(str(path))


def _ours(fst: Any) -> Fst:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fst"
        _kaldifst().StdVectorFst(fst).write(str(path))
        return read_fst_file(path)


def composed(left: Fst, right: Fst) -> Fst:
    """The composition; the words between them cost nothing (fsttablecompose)."""
    left = sorted_arcs(left, by_output=True)
    right = sorted_arcs(right, by_output=False)
    return _ours(_kaldifst().compose(_theirs(left), _theirs(right)))


def determinized_star(fst: Fst) -> Fst:
    """Without epsilons on the input side and deterministic there (fstdeterminizestar --use-log).

    Raises:
        NnetError: that does not end, because two paths with the same input differ without end.
    """
    theirs = _theirs(fst)
    try:
        _kaldifst().determinize_star(theirs, use_log=True)
    except RuntimeError as error:
        raise NnetError(
            f"the graph cannot be determinized ({error}); expected: a lexicon with disambiguation "
            "symbols, in which different words have different phones"
        ) from None
    return _ours(theirs)


def minimized_encoded(fst: Fst) -> Fst:
    """With as few states as can be without moving costs or words (fstminimizeencoded)."""
    theirs = _theirs(fst)
    _kaldifst().minimize_encoded(theirs)
    return _ours(theirs)


def in_context(
    fst: Fst, disambiguation: Sequence[int], width: int, central_position: int
) -> tuple[Fst, Windows]:
    """Phones replaced by numbers of windows of phones (fstcomposecontext).

    Returns:
        The transducer and the windows: number 0 is none, those of disambiguation symbols hold the
        negated symbol.
    """
    found, windows = _kaldifst().compose_context(
        list(disambiguation), width, central_position, _theirs(fst)
    )
    return _ours(found), [list(window) for window in windows]
