"""Training examples of LF-MMI (nnet3's NnetChainExample, "cegs"), read, written and merged."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.examples import (
    MOST_INPUTS,
    Example,
    Indexes,
    NnetIo,
    merge_examples,
    read_indexes,
    read_io,
    write_indexes,
    write_io,
)
from nnet.modelfile.fst import Fst, read_acceptor, write_acceptor
from nnet.modelfile.fst_paths import concatenated
from nnet.modelfile.tokens import BinaryReader, Reader
from nnet.modelfile.writing import Writer

Floats = NDArray[np.float32]

XENT = "-xent"
"""What is added to an output's name to name the one that is regularized by cross-entropy."""


@dataclass(frozen=True, eq=False)
class Supervision:
    """Which sequences of pdfs are right (nnet3's chain::Supervision).

    Args:
        weight: by which objective and derivative are multiplied.
        sequences: the number of sequences.
        frames: output frames of each of them.
        label_dim: the number of pdfs; labels of arcs are pdf-ids plus one.
        fsts: one acceptor over all sequences, one after the other, without cycles and with states
            in order of time; or, `end_to_end`, one for each sequence, which may have cycles.
        end_to_end: which of these; egs made with `--constrained=false` have it too.
        alignment_pdfs: of one path; only unmerged unconstrained examples have them.
    """

    weight: float
    sequences: int
    frames: int
    label_dim: int
    fsts: tuple[Fst, ...]
    end_to_end: bool = False
    alignment_pdfs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class ChainOutput:
    """The supervision of one output node (nnet3's NnetChainSupervision).

    Args:
        name: of the node.
        indexes: (n, t, x) of the output's rows, all sequences of a time before the next time.
        supervision: for these rows.
        deriv_weights: of the rows, by which derivatives are multiplied; float32 (rows,), or empty.
    """

    name: str
    indexes: Indexes
    supervision: Supervision
    deriv_weights: Floats

    @property
    def structure(self) -> tuple[object, ...]:
        """Equal for outputs that can be merged."""
        return self.name, self.indexes.tobytes()


@dataclass(frozen=True, eq=False)
class ChainExample:
    """Inputs and supervised outputs, by which a network is trained."""

    inputs: tuple[NnetIo, ...]
    outputs: tuple[ChainOutput, ...]

    structure: tuple[object, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inputs = (io.structure for io in self.inputs)
        outputs = (output.structure for output in self.outputs)
        object.__setattr__(self, "structure", (*inputs, *outputs))

    @property
    def size(self) -> int:
        """The rows of its largest input or output, by which merging rules choose."""
        inputs = max(len(io.indexes) for io in self.inputs)
        return max(inputs, *(len(output.indexes) for output in self.outputs))

    @property
    def is_merged(self) -> bool:
        """Whether it has several sequences."""
        return any(output.supervision.sequences > 1 for output in self.outputs)

    def merge(self, others: Sequence[ChainExample]) -> ChainExample:
        """One example with the sequences of this one and of others (see `merge_chain_examples`)."""
        return merge_chain_examples([self, *others])

    def compressed(self) -> ChainExample:
        """The same with full matrices compressed."""
        return replace(self, inputs=Example(self.inputs).compressed().io)

    def shifted(self, frames: int, exclude: Sequence[str] = ("ivector",)) -> ChainExample:
        """The same with its inputs moved by some frames (nnet3's ShiftChainExampleTimes).

        The supervision moves by the nearest multiple of the subsampling factor.
        """
        inputs = tuple(
            io if io.name in exclude else replace(io, indexes=_moved(io.indexes, frames))
            for io in self.inputs
        )
        return ChainExample(inputs, tuple(_shifted_output(o, frames) for o in self.outputs))


def chain_output(
    name: str, supervision: Supervision, deriv_weights: Floats, step: int
) -> ChainOutput:
    """The output of one sequence, at times 0, `step`, 2 `step`, ...

    Args:
        name: of the output node.
        supervision: of one sequence.
        deriv_weights: (frames,).
        step: input frames for each output frame.
    """
    indexes = _regular_indexes(1, supervision.frames, 0, step)
    return ChainOutput(name, indexes, supervision, deriv_weights)


def _moved(indexes: Indexes, frames: int) -> Indexes:
    return indexes + np.array((0, frames, 0), np.int32)


def _shifted_output(output: ChainOutput, frames: int) -> ChainOutput:
    step = int(output.indexes[output.supervision.sequences, 1] - output.indexes[0, 1])
    shift = step * int(np.floor(0.5 + frames / step))
    return replace(output, indexes=_moved(output.indexes, shift)) if shift else output


def read_chain_example(reader: Reader) -> ChainExample:
    """The example that begins here.

    Raises:
        NnetError: it is damaged.
    """
    if reader.peek_token() == "<Nnet3Eg>":
        reader.fail("an example for LF-MMI", "one with targets of frames, which needs no --den-fst")
    reader.expect("<Nnet3ChainEg>")
    inputs = tuple(read_io(reader) for _ in range(_count(reader, "<NumInputs>")))
    outputs = tuple(_read_output(reader) for _ in range(_count(reader, "<NumOutputs>")))
    reader.expect("</Nnet3ChainEg>")
    return ChainExample(inputs, outputs)


def _count(reader: Reader, token: str) -> int:
    reader.expect(token)
    count = reader.integer()
    if not 0 < count <= MOST_INPUTS:
        reader.fail("the number of inputs or outputs", str(count))
    return count


def _read_output(reader: Reader) -> ChainOutput:
    reader.expect("<NnetChainSup>")
    name = reader.token("the name of an output")
    indexes = read_indexes(reader)
    supervision = read_supervision(reader)
    weights = np.zeros(0, np.float32)
    token = reader.expect("<DW2>", "<DW>", "</NnetChainSup>")
    if token != "</NnetChainSup>":
        weights = reader.vector() if token == "<DW2>" else _read_bytes(reader)
        reader.expect("</NnetChainSup>")
    if len(weights) not in (0, len(indexes)):
        reader.fail(f"{len(indexes)} derivative weights", str(len(weights)))
    _check_indexes(reader, indexes, supervision)
    return ChainOutput(name, indexes, supervision, weights)


def _check_indexes(reader: Reader, indexes: Indexes, supervision: Supervision) -> None:
    sequences, frames = supervision.sequences, supervision.frames
    if len(indexes) != sequences * frames or frames < 2:
        reader.fail(f"indexes of {sequences} sequences of {frames} (at least 2) frames",
                    f"{len(indexes)} indexes")  # fmt: skip
    start, step = int(indexes[0, 1]), int(indexes[sequences, 1] - indexes[0, 1])
    if not (indexes == _regular_indexes(sequences, frames, start, step)).all() or step <= 0:
        reader.fail("regular indexes, all sequences of a time before the next time")


def _regular_indexes(sequences: int, frames: int, start: int, step: int) -> Indexes:
    indexes = np.zeros((frames * sequences, 3), np.int32)
    indexes[:, 0] = np.tile(np.arange(sequences), frames)
    indexes[:, 1] = np.repeat(start + step * np.arange(frames), sequences)
    return indexes


def _read_bytes(reader: Reader) -> Floats:
    """Weights in the old form, one byte each."""
    if not isinstance(reader, BinaryReader):
        return np.array(reader.integers(), np.float32) / np.float32(255)
    if reader.take(1, "the size of a weight") != b"\x01":
        reader.fail("the size byte 1 of weights", at=reader.position - 1)
    (count,) = struct.unpack("<i", reader.take(4, "the number of weights"))
    if count < 0:
        reader.fail("the number of weights", str(count), at=reader.position - 4)
    stored = np.frombuffer(reader.take(count, "weights"), np.uint8).astype(np.float32)
    return stored / np.float32(255)


def read_supervision(reader: Reader) -> Supervision:
    """The supervision that begins here."""
    reader.expect("<Supervision>")
    reader.expect("<Weight>")
    weight = reader.real()
    sequences = _size(reader, "<NumSequences>")
    frames = _size(reader, "<FramesPerSeq>")
    label_dim = _size(reader, "<LabelDim>")
    reader.expect("<End2End>")
    end_to_end = reader.boolean()
    if end_to_end:
        reader.expect("<Fsts>")
        fsts = tuple(read_acceptor(reader) for _ in range(sequences))
        reader.expect("</Fsts>")
    else:
        fsts = (read_acceptor(reader),)
    alignment: tuple[int, ...] = ()
    if reader.expect("<AlignmentPdfs>", "</Supervision>") == "<AlignmentPdfs>":
        alignment = reader.integers()
        reader.expect("</Supervision>")
    for fst in fsts:
        if not fst.num_arcs or not 0 < fst.ilabels.min() <= fst.ilabels.max() <= label_dim:
            reader.fail(f"an acceptor with labels from 1 to {label_dim}")
    return Supervision(weight, sequences, frames, label_dim, fsts, end_to_end, alignment)


def _size(reader: Reader, token: str) -> int:
    reader.expect(token)
    size = reader.integer()
    if size <= 0:
        reader.fail(f"a positive {token}", str(size))
    return size


def write_chain_example(writer: Writer, example: ChainExample) -> None:
    """Writes an example; one that was read gets the same bytes."""
    writer.token("<Nnet3ChainEg>")
    writer.token("<NumInputs>")
    writer.integer(len(example.inputs))
    writer.text_newline()
    for io in example.inputs:
        write_io(writer, io)
        writer.text_newline()
    writer.token("<NumOutputs>")
    writer.integer(len(example.outputs))
    writer.text_newline()
    for output in example.outputs:
        _write_output(writer, output)
        writer.text_newline()
    writer.token("</Nnet3ChainEg>")


def _write_output(writer: Writer, output: ChainOutput) -> None:
    writer.token("<NnetChainSup>")
    writer.token(output.name)
    write_indexes(writer, output.indexes)
    write_supervision(writer, output.supervision)
    writer.token("<DW2>")
    writer.vector(output.deriv_weights)
    writer.token("</NnetChainSup>")


def write_supervision(writer: Writer, supervision: Supervision) -> None:
    """Writes a supervision."""
    writer.token("<Supervision>")
    writer.token("<Weight>")
    writer.real(supervision.weight)
    for token, size in (
        ("<NumSequences>", supervision.sequences),
        ("<FramesPerSeq>", supervision.frames),
        ("<LabelDim>", supervision.label_dim),
    ):
        writer.token(token)
        writer.integer(size)
    writer.token("<End2End>")
    writer.boolean(supervision.end_to_end)
    if supervision.end_to_end:
        writer.token("<Fsts>")
    for fst in supervision.fsts:
        write_acceptor(writer, fst)
    if supervision.end_to_end:
        writer.token("</Fsts>")
    if supervision.alignment_pdfs:
        writer.token("<AlignmentPdfs>")
        writer.integers(supervision.alignment_pdfs)
    writer.token("</Supervision>")


def merge_chain_examples(examples: Sequence[ChainExample]) -> ChainExample:
    """One example with the sequences of all of them (nnet3's MergeChainExamples).

    Raises:
        NnetError: the examples differ in inputs, outputs, dimensions or weights, or were merged
            before.
    """
    inputs = merge_examples([Example(example.inputs) for example in examples]).io
    outputs = zip(*(example.outputs for example in examples), strict=True)
    return ChainExample(inputs, tuple(merge_chain_outputs(same) for same in outputs))


def merge_chain_outputs(outputs: Sequence[ChainOutput]) -> ChainOutput:
    """One output with the sequences of all of them.

    Raises:
        NnetError: as `merge_supervisions`.
    """
    first = outputs[0]
    start, step = first.indexes[:2, 1].tolist()
    weights = np.stack([output.deriv_weights for output in outputs], 1).reshape(-1)
    supervision = merge_supervisions([output.supervision for output in outputs])
    indexes = _regular_indexes(len(outputs), first.supervision.frames, start, step - start)
    return ChainOutput(first.name, indexes, supervision, weights)


def merge_supervisions(parts: Sequence[Supervision]) -> Supervision:
    """One supervision over the sequences of all of them, as nnet3's MergeSupervision makes it.

    Raises:
        NnetError: they were merged before, or differ in weight, frames or number of pdfs.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if part.sequences > 1:
            raise NnetError("chain examples that were merged before cannot be merged again")
        found = (part.weight, part.frames, part.label_dim, part.end_to_end)
        wanted = (first.weight, first.frames, first.label_dim, first.end_to_end)
        if found != wanted:
            raise NnetError(
                "chain examples to merge differ in weight, frames, number of pdfs or end-to-end: "
                f"{found} and {wanted}"
            )
    fsts = tuple(part.fsts[0] for part in parts)
    return Supervision(
        first.weight,
        len(parts),
        first.frames,
        first.label_dim,
        fsts if first.end_to_end else (concatenated(fsts),),
        first.end_to_end,
    )
