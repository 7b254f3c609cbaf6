"""Tables of targets: opened, and checked against the output that they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnet.data.posteriors import Posterior
from nnet.data.streams import ByteReader
from nnet.data.tables import RandomAccess
from nnet.data.targets import Target, TargetKind, check_target, read_target, unify


@dataclass(frozen=True)
class TargetTable:
    """A table of targets as an rspecifier, and the dimension of the output that they are for.

    `read` reads the targets of an utterance.
    """

    rspecifier: str
    dim: int
    read: Callable[[ByteReader], Target] = read_target


class OpenTargets:
    """The targets of utterances by name.

    Attributes:
        kind: of all of them.
        bytes_per_frame: memory that a frame takes, roughly.
    """

    def __init__(self, table: TargetTable) -> None:
        self._table = table
        self._targets: RandomAccess[Target] = RandomAccess(table.rspecifier, table.read)
        self.kind = self._kind()
        self.bytes_per_frame = 4 * (table.dim if self.kind is TargetKind.MATRIX else 2)

    def _kind(self) -> TargetKind:
        """The kind of the first target that is not all zeros, which two kinds write alike."""
        kind = TargetKind.ALIGNMENT
        for target in self._targets.values():
            kind = TargetKind.of(target)
            if isinstance(target, np.ndarray) and target.ndim == 1 and not target.any():
                continue
            break
        return kind

    def __contains__(self, name: str) -> bool:
        return name in self._targets

    def __getitem__(self, name: str) -> Target:
        """The targets of an utterance; of no frames, if it has none.

        Raises:
            TableError: they do not fit the output, or are of another kind than those before.
        """
        if name not in self._targets:
            return self._nothing()
        target = unify(self._targets[name], self.kind)
        check_target(self._table.rspecifier, name, target, self.kind, self._table.dim)
        return target

    def _nothing(self) -> Target:
        if self.kind is TargetKind.POSTERIOR:
            return Posterior.of([])
        shape = (0, self._table.dim) if self.kind is TargetKind.MATRIX else (0,)
        return np.zeros(shape, np.float32 if self.kind is TargetKind.MATRIX else np.int32)
