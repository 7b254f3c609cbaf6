"""What is known about a speaker, as a file (Kaldi's OnlineIvectorExtractorAdaptationState)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.modelfile.loading import open_file
from nnet.modelfile.packed_matrix import packed_dim, read_packed, write_packed
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer, save_bytes

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OnlineCmvnState:
    """CMVN statistics, (2, dim + 1) each, that normalization begins with.

    Args:
        globals: of all speakers.
        speaker: of this speaker's utterances so far.
        frozen: if normalization was frozen, what all frames are normalized with.
    """

    globals: Doubles
    speaker: Doubles | None = None
    frozen: Doubles | None = None

    @property
    def dim(self) -> int:
        """Numbers in a frame."""
        return self.globals.shape[1] - 1


@dataclass(frozen=True, eq=False)
class IvectorStatistics:
    """A quadratic function of the i-vector: the log-likelihood of the frames so far and the prior.

    Args:
        linear: its linear term, (ivector_dim,).
        quadratic: the lower triangle of its quadratic term, (ivector_dim (ivector_dim + 1) / 2,).
        frames: how many frames there were, each times its weight and the posterior scale.
        prior_offset: mean of the first number of an i-vector.
        max_count: frames above which the prior grows with the statistics; 0: never.
    """

    linear: Doubles
    quadratic: Doubles
    frames: float
    prior_offset: float
    max_count: float = 0.0

    @property
    def ivector_dim(self) -> int:
        """Numbers in an i-vector."""
        return len(self.linear)


@dataclass(frozen=True, eq=False)
class AdaptationState:
    """What is carried from one utterance of a speaker to the next."""

    cmvn: OnlineCmvnState
    ivector: IvectorStatistics


def read_adaptation_state(path: str | os.PathLike[str]) -> AdaptationState:
    """A state from a file, binary or text.

    Raises:
        NnetError: it cannot be read or is damaged; with the byte offset.
    """
    return parse_adaptation_state(open_file(path))


def parse_adaptation_state(reader: Reader) -> AdaptationState:
    """The state that begins here; see `read_adaptation_state`."""
    reader.expect("<OnlineIvectorExtractorAdaptationState>")
    reader.expect("<CmvnState>")
    cmvn = _read_cmvn(reader)
    reader.expect("<IvectorStats>")
    ivector = _read_statistics(reader)
    reader.expect("</OnlineIvectorExtractorAdaptationState>")
    return AdaptationState(cmvn, ivector)


def _read_cmvn(reader: Reader) -> OnlineCmvnState:
    reader.expect("<OnlineCmvnState>")
    reader.expect("<SpeakerCmvnStats>")
    speaker = _read_stats(reader)
    reader.expect("<GlobalCmvnStats>")
    start = reader.position
    globals_ = _read_stats(reader)
    if globals_ is None:
        reader.fail("global CMVN statistics", "none", at=start)
    reader.expect("<FrozenState>")
    frozen = _read_stats(reader)
    reader.expect("</OnlineCmvnState>")
    for stats in (speaker, frozen):
        if stats is not None and stats.shape != globals_.shape:
            reader.fail(f"CMVN statistics of {globals_.shape[1]} columns", str(stats.shape[1]))
    return OnlineCmvnState(globals_, speaker, frozen)


def _read_stats(reader: Reader) -> Doubles | None:
    start = reader.position
    stats = reader.double_matrix().astype(np.float64)
    if stats.size == 0:
        return None
    if stats.shape[0] != 2 or stats.shape[1] < 2:
        reader.fail("CMVN statistics, 2 rows", f"{stats.shape[0]} by {stats.shape[1]}", at=start)
    return stats


def _read_statistics(reader: Reader) -> IvectorStatistics:
    reader.expect("<OnlineIvectorEstimationStats>")
    reader.expect("<PriorOffset>")
    offset, max_count = reader.double(), 0.0
    if reader.expect("<MaxCount>", "<NumFrames>") == "<MaxCount>":
        max_count = reader.double()
        reader.expect("<NumFrames>")
    frames = reader.double()
    reader.expect("<QuadraticTerm>")
    quadratic = read_packed(reader)
    reader.expect("<LinearTerm>")
    start = reader.position
    linear = reader.double_vector().astype(np.float64)
    if len(linear) != packed_dim(len(quadratic)):
        reader.fail(
            f"a linear term of {packed_dim(len(quadratic))} numbers", f"{len(linear)}", at=start
        )
    reader.expect("</OnlineIvectorEstimationStats>")
    return IvectorStatistics(linear, quadratic, frames, offset, max_count)


def write_adaptation_state(
    state: AdaptationState, path: str | os.PathLike[str], binary: bool = True
) -> None:
    """Writes a state whole or not at all; one that was read gets the same bytes."""
    writer: Writer = BinaryWriter() if binary else TextWriter()
    writer.token("<OnlineIvectorExtractorAdaptationState>")
    writer.token("<CmvnState>")
    writer.token("<OnlineCmvnState>")
    none = np.zeros((0, 0))
    for token, stats in (
        ("<SpeakerCmvnStats>", state.cmvn.speaker),
        ("<GlobalCmvnStats>", state.cmvn.globals),
        ("<FrozenState>", state.cmvn.frozen),
    ):
        writer.token(token)
        writer.double_matrix(none if stats is None else stats)
    writer.token("</OnlineCmvnState>")
    writer.token("<IvectorStats>")
    _write_statistics(writer, state.ivector)
    writer.token("</OnlineIvectorExtractorAdaptationState>")
    save_bytes(bytes(writer), path)


def _write_statistics(writer: Writer, stats: IvectorStatistics) -> None:
    writer.token("<OnlineIvectorEstimationStats>")
    for token, value in (
        ("<PriorOffset>", stats.prior_offset),
        ("<MaxCount>", stats.max_count),
        ("<NumFrames>", stats.frames),
    ):
        writer.token(token)
        writer.double(value)
    writer.token("<QuadraticTerm>")
    write_packed(writer, stats.quadratic)
    writer.token("<LinearTerm>")
    writer.double_vector(stats.linear)
    writer.token("</OnlineIvectorEstimationStats>")
