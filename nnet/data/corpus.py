"""Utterances for training: features, targets and i-vectors, checked, held or read again."""

from __future__ import annotations

import logging
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nnet.data.errors import TableError
from nnet.data.matrices import Floats, read_vector_or_matrix
from nnet.data.phone_alignments import PhoneAlignment
from nnet.data.streams import ByteReader
from nnet.data.tables import RandomAccess, random_access
from nnet.data.target_tables import OpenTargets, TargetTable
from nnet.data.targets import Target, check_features, frames_per_target, read_target

log = logging.getLogger(__name__)

IVECTOR_TOLERANCE = 100  # Kaldi's --length-tolerance between features and i-vectors, in frames
GIBIBYTE = 1 << 30
SAMPLED_FOR_FINGERPRINT = 1000


class FeatureTable(Protocol):
    """Features (frames, dim) by utterance: a table, or what computes them from sound."""

    def __getitem__(self, utterance: str) -> Floats: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def shape(self, utterance: str) -> tuple[int, int]:
        """(frames, dim), without loading them where that is possible."""
        ...


@dataclass(frozen=True)
class Sources:
    """The tables of a data set, as rspecifiers, and the network's dimensions that they must have.

    `ivectors` holds one vector for each utterance, `online_ivectors` a matrix with a row for every
    `online_ivector_period` frames. At most one of them is given. `output_dim` is the dimension of
    the output that the targets are for, `subsampling` its frame subsampling factor. `memory` is
    how many bytes of data to hold; a larger set is read again in every epoch. `read_target` reads
    the targets of an utterance. `more_targets` are for other outputs, by name; an utterance may
    lack some of them. `open_features` opens `feats`; if features are `redrawn`, each load gives
    other ones (augmentation), so none are held.
    """

    feats: str
    targets: str
    feature_dim: int
    output_dim: int
    ivectors: str | None = None
    online_ivectors: str | None = None
    online_ivector_period: int = 10
    ivector_dim: int | None = None
    subsampling: int = 1
    memory: int = 4 * GIBIBYTE
    read_target: Callable[[ByteReader], Target] = read_target
    more_targets: Mapping[str, TargetTable] = field(default_factory=dict)
    open_features: Callable[[str], FeatureTable] = random_access
    redrawn: bool = False


class OutputTarget(NamedTuple):
    """An utterance's targets for one output; one stands for `frames_per_target` input frames."""

    target: Target
    frames_per_target: int


@dataclass(frozen=True, eq=False)
class Utterance:
    """Features (frames, dim), targets and i-vectors (rows, dim) of one utterance.

    One target stands for `frames_per_target` input frames, one i-vector for `frames_per_ivector`.
    `more` are the targets for other outputs, by name. Targets of no frames are none.
    """

    name: str
    features: Floats
    target: Target
    frames_per_target: int
    ivectors: Floats | None = None
    frames_per_ivector: int = 1
    more: Mapping[str, OutputTarget] = field(default_factory=dict)

    def target_of(self, output: str) -> OutputTarget:
        """The targets for an output: those of its name, or else the main ones."""
        return self.more.get(output) or OutputTarget(self.target, self.frames_per_target)


class Corpus:
    """A set of checked utterances by number. Safe to use from threads.

    Attributes:
        names: of the utterances.
        lengths: frames of each, (utterances,).
        bytes_per_frame: memory that a frame takes, roughly.
    """

    def __init__(self, store: _Store, names: Iterable[str], lengths: Mapping[str, int]) -> None:
        self._store = store
        self.names = tuple(names)
        self.lengths = np.array([lengths[name] for name in self.names], np.int64)
        self.sources = store.sources
        self.target_kind = store.targets.kind
        self.more_kinds = {name: table.kind for name, table in store.more.items()}
        self.bytes_per_frame = store.bytes_per_frame

    def __len__(self) -> int:
        return len(self.names)

    def load(self, number: int) -> Utterance:
        """Utterance `number`, from memory if it is still held.

        Raises:
            TableError: the table is damaged or its numbers are not finite.
        """
        return self._store.load(self.names[number])

    @property
    def is_held(self) -> bool:
        """Whether the whole set fits in memory."""
        size = int(self.lengths.sum()) * self.bytes_per_frame
        return not self.sources.redrawn and size <= self.sources.memory

    def split(self, share: float, random: np.random.Generator) -> tuple[Corpus, Corpus]:
        """Two corpora: the rest, and random utterances with about `share` of the frames."""
        order = random.permutation(len(self))
        frames = np.cumsum(self.lengths[order])
        count = int(np.searchsorted(frames, share * frames[-1])) + 1
        if count >= len(self):
            raise TableError(
                self.sources.feats,
                f"{len(self)} utterances are too few to hold out a share of {share:g}",
                hint="give validation data with --valid-feats and --valid-targets, or "
                "--valid-share 0",
            )
        lengths = dict(zip(self.names, self.lengths.tolist(), strict=True))
        held_out = {self.names[i] for i in order[:count]}
        rest = (name for name in self.names if name not in held_out)
        chosen = (name for name in self.names if name in held_out)
        return Corpus(self._store, rest, lengths), Corpus(self._store, chosen, lengths)

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: sizes and checksums of names, targets and sampled features."""
        step = -(-len(self) // SAMPLED_FOR_FINGERPRINT)
        features = targets = 0
        for number in range(0, len(self), step):
            utterance = self.load(number)
            features = zlib.crc32(utterance.features.tobytes(), features)
            targets = _checksum(utterance.target, targets)
            for more in utterance.more.values():
                targets = _checksum(more.target, targets)
        return {
            "utterances": len(self),
            "frames": int(self.lengths.sum()),
            "targets": " ".join(
                [self.target_kind.name.lower()]
                + [f"{name}: {kind.name.lower()}" for name, kind in self.more_kinds.items()]
            ),
            "checksum of names": zlib.crc32("\n".join(self.names).encode()),
            "checksum of features": features,
            "checksum of targets": targets,
        }


def load_corpus(sources: Sources) -> Corpus:
    """Opens the tables and checks every utterance against the network's dimensions.

    Utterances without targets or i-vectors, or of another length than these, are left out with a
    warning that counts them.

    Raises:
        TableError: a table is missing or damaged, the network's dimensions are not the data's, a
            target is no output of the network, a number is not finite, or nothing is left.
    """
    store = _Store(sources)
    lengths: dict[str, int] = {}
    left_out: dict[str, list[str]] = {}
    for name in store.features:
        frames, dim = store.features.shape(name)
        _check_dim(sources.feats, name, "features", dim, sources.feature_dim, "input")
        reason = store.reason_to_leave_out(name, frames)
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            lengths[name] = frames
    for reason, names in left_out.items():
        log.warning(
            "%d of %d utterances %s and are left out (first: %s)",
            len(names), len(store.features), reason, ", ".join(names[:3]),
        )  # fmt: skip
    if not lengths:
        reasons = ", ".join(f"{len(names)} {reason}" for reason, names in left_out.items())
        raise TableError(
            sources.feats,
            f"no utterance of {len(store.features)} can be used: {reasons or 'the table is empty'}",
            expected=f"features with targets of the same names and lengths in {sources.targets}",
        )
    corpus = Corpus(store, lengths, lengths)
    if corpus.is_held:
        for number in range(len(corpus)):
            corpus.load(number)
    return corpus


class _Store:
    """The open tables and what is held of them."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.features = sources.open_features(sources.feats)
        main = TargetTable(sources.targets, sources.output_dim, sources.read_target)
        self.targets = OpenTargets(main)
        self.more = {name: OpenTargets(table) for name, table in sources.more_targets.items()}
        rspecifier = sources.ivectors or sources.online_ivectors
        self.ivectors = RandomAccess(rspecifier, read_vector_or_matrix) if rspecifier else None
        self.ivector_table = rspecifier or ""
        self.bytes_per_frame = 4 * sources.feature_dim + sum(
            table.bytes_per_frame for table in (self.targets, *self.more.values())
        )
        self._held: OrderedDict[str, Utterance] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def reason_to_leave_out(self, name: str, frames: int) -> str | None:
        """Checks the targets and i-vectors; why the utterance cannot be used, if it cannot."""
        tables = [table for table in (self.targets, *self.more.values()) if name in table]
        if not tables:
            return "have no targets"
        if frames == 0:
            return "have no frames"
        step = self.sources.subsampling
        if any(frames_per_target(frames, len(table[name]), step) is None for table in tables):
            return "have targets of another length"
        if self.ivectors is None:
            return None
        if name not in self.ivectors:
            return "have no i-vector"
        rows, dim = self._checked_ivectors(name).shape
        _check_dim(
            self.ivector_table, name, "i-vectors", dim, self.sources.ivector_dim or 0, "ivector"
        )
        period = self.sources.online_ivector_period
        if self.sources.online_ivectors and abs(frames - rows * period) > IVECTOR_TOLERANCE:
            return "have i-vectors of another length"
        return None

    def load(self, name: str) -> Utterance:
        if self.sources.redrawn:
            return self._read(name)
        with self._lock:
            utterance = self._held.pop(name, None)
            if utterance is None:
                utterance = self._read(name)
                self._bytes += self._size(utterance)
            self._held[name] = utterance
            while self._bytes > self.sources.memory and len(self._held) > 1:
                self._bytes -= self._size(self._held.popitem(last=False)[1])
            return utterance

    def _size(self, utterance: Utterance) -> int:
        return len(utterance.features) * self.bytes_per_frame

    def _read(self, name: str) -> Utterance:
        features = self.features[name]
        check_features(self.sources.feats, name, features)
        main = self._target(self.targets, name, len(features))
        more = {n: self._target(table, name, len(features)) for n, table in self.more.items()}
        ivectors, per_ivector = None, 1
        if self.ivectors is not None:
            ivectors = self._checked_ivectors(name)
            online = self.sources.online_ivectors is not None
            per_ivector = self.sources.online_ivector_period if online else max(1, len(features))
        return Utterance(name, features, *main, ivectors, per_ivector, more)

    def _target(self, table: OpenTargets, name: str, frames: int) -> OutputTarget:
        target = table[name]
        per_target = frames_per_target(frames, len(target), self.sources.subsampling)
        return OutputTarget(target, per_target or 1)

    def _checked_ivectors(self, name: str) -> Floats:
        if self.ivectors is None:
            raise KeyError(name)
        vectors = self.ivectors[name]
        check_features(self.ivector_table, name, vectors)
        if self.sources.ivectors and len(vectors) != 1:
            raise TableError(
                self.ivector_table,
                f"found {len(vectors)} i-vectors",
                utterance=name,
                expected="one for the utterance",
                hint="i-vectors that change with time are given with --online-ivectors",
            )
        return vectors


def _check_dim(table: str, name: str, what: str, found: int, expected: int, node: str) -> None:
    if found != expected:
        raise TableError(
            table,
            f"the {what} have dimension {found}",
            utterance=name,
            expected=f"{expected}, the dim of the network's input node '{node}'",
            hint=f"set dim={found} at the network's '{node}', or give other {what}",
        )


def _checksum(target: Target, start: int) -> int:
    arrays: tuple[NDArray[Any], ...]
    if isinstance(target, np.ndarray):
        arrays = (target,)
    elif isinstance(target, PhoneAlignment):
        arrays = (target.phones, target.durations)
    else:
        arrays = (target.offsets, target.ids, target.weights)
    for array in arrays:
        start = zlib.crc32(array.tobytes(), start)
    return start
