"""Chain examples: the same bytes back, merged as Kaldi merges them, shifted, and damaged ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnet.data.examples import read_objects
from nnet.data.merging import MergingRules, merged
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import (
    ChainExample,
    merge_chain_examples,
    merge_supervisions,
    read_chain_example,
    write_chain_example,
)
from nnet.modelfile.tokens import BinaryReader, TextReader
from nnet.modelfile.writing import BinaryWriter, TextWriter
from tests.supervisions import random_supervision

TRAINING = Path(__file__).parents[1] / "golden/training"
MERGED_CHAIN = "080308e59435007aab889da378576eeb0b23cdfbe113ac70b90768a8eb4ba780"
"""SHA-256 of what nnet3-chain-merge-egs makes of chain/cegs_unmerged.ark."""


def entries(name: str) -> list[tuple[str, ChainExample]]:
    return list(read_objects(f"ark:{TRAINING}/{name}", read_chain_example))


def binary(example: ChainExample) -> bytes:
    writer = BinaryWriter()
    write_chain_example(writer, example)
    return bytes(writer)


def archive(examples: list[tuple[str, ChainExample]]) -> bytes:
    return b"".join(f"{key} ".encode() + binary(example) for key, example in examples)


@pytest.mark.parametrize(
    "name", ["chain/cegs_unmerged.ark", "chain_e2e/cegs_unmerged.ark", "chain_e2e/cegs.ark"]
)
def test_kaldis_examples_are_written_back_byte_for_byte(name: str) -> None:
    assert archive(entries(name)) == (TRAINING / name).read_bytes()


def test_sequences_are_merged_as_kaldi_does_byte_for_byte() -> None:
    examples = [example for _, example in entries("chain/cegs_unmerged.ark")]
    minibatches = list(merged(examples, MergingRules.parse("6")))
    assert hashlib.sha256(archive(minibatches)).hexdigest() == MERGED_CHAIN


def test_end_to_end_sequences_are_merged_as_kaldi_does_byte_for_byte() -> None:
    examples = [example for _, example in entries("chain_e2e/cegs_unmerged.ark")]
    minibatches = list(merged(examples, MergingRules.parse("4")))
    assert archive(minibatches) == (TRAINING / "chain_e2e/cegs.ark").read_bytes()


@pytest.mark.parametrize("name", ["chain/cegs_unmerged.ark", "chain_e2e/cegs.ark"])
def test_the_text_form(name: str) -> None:
    """Numbers have 7 digits; all else comes back."""
    example = entries(name)[0][1]
    writer = TextWriter()
    write_chain_example(writer, example)
    found = read_chain_example(TextReader(bytes(writer), "text"))
    again = TextWriter()
    write_chain_example(again, found)
    assert bytes(again) == bytes(writer)
    for ours, theirs in zip(found.outputs, example.outputs, strict=True):
        assert ours.structure == theirs.structure
        for mine, wanted in zip(ours.supervision.fsts, theirs.supervision.fsts, strict=True):
            assert (mine.nextstates == wanted.nextstates).all()
            np.testing.assert_allclose(mine.weights, wanted.weights, rtol=1e-6)


def test_unconstrained_examples_keep_the_pdfs_of_their_alignment() -> None:
    example = entries("chain_e2e/cegs_unmerged.ark")[0][1]
    (output,) = example.outputs
    supervision = replace(output.supervision, alignment_pdfs=tuple(range(30)))
    changed = ChainExample(example.inputs, (replace(output, supervision=supervision),))
    found = read_chain_example(BinaryReader(binary(changed)[2:], "egs"))
    assert found.outputs[0].supervision.alignment_pdfs == tuple(range(30))
    assert binary(found) == binary(changed)
    both = merge_chain_examples([found, found])
    assert both.outputs[0].supervision.alignment_pdfs == ()


@pytest.mark.parametrize(("frames", "moved"), [(0, 0), (1, 0), (2, 3), (-1, 0), (-2, -3), (4, 3)])
def test_features_are_shifted_and_the_supervision_by_whole_output_frames(
    frames: int, moved: int
) -> None:
    example = entries("chain/cegs_unmerged.ark")[0][1]
    shifted = example.shifted(frames)
    for before, after in zip(example.inputs, shifted.inputs, strict=True):
        by = 0 if before.name == "ivector" else frames
        assert (after.indexes[:, 1] - before.indexes[:, 1] == by).all()
    assert (shifted.outputs[0].indexes[:, 1] - example.outputs[0].indexes[:, 1] == moved).all()


def test_old_weights_of_one_byte() -> None:
    example = entries("chain/cegs_unmerged.ark")[0][1]
    content = binary(example)
    begin = content.index(b"<DW2> ")
    old = b"<DW> \1\x0a\0\0\0" + bytes(range(0, 250, 25)) + b"</NnetChainSup> "
    end = content.index(b"</NnetChainSup> ") + len(b"</NnetChainSup> ")
    changed = content[2:begin] + old + content[end:]
    found = read_chain_example(BinaryReader(changed, "egs")).outputs[0].deriv_weights
    np.testing.assert_allclose(found, np.arange(0, 250, 25) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (b"<NumSequences> \4", b"\0\0\0\0", "expected a positive <NumSequences>, found 0"),
        (b"<FramesPerSeq> \4", b"\x0b\0\0\0", "expected indexes of 1 sequences of 11"),
        (b"<LabelDim> \4", b"\2\0\0\0", "expected an acceptor with labels from 1 to 2"),
        (b"<NumOutputs> \4", b"\0\0\0\0", "expected the number of inputs or outputs, found 0"),
        (b"<End2End> F", b"\0\0\0\0", "expected an FST in OpenFst's binary form"),
    ],
)
def test_damaged_examples(place: bytes, change: bytes, message: str) -> None:
    content = bytearray(binary(entries("chain/cegs_unmerged.ark")[0][1])[2:])
    at = content.index(place) + len(place)
    content[at : at + 4] = change
    with pytest.raises(NnetError, match="egs: byte") as error:
        read_chain_example(BinaryReader(bytes(content), "egs"))
    assert message in str(error.value)


def test_an_example_cut_off_anywhere_is_an_error() -> None:
    content = binary(entries("chain/cegs_unmerged.ark")[0][1])[2:]
    for end in range(0, len(content) - 1, 97):
        with pytest.raises(NnetError):
            read_chain_example(BinaryReader(content[:end], "egs"))


def test_what_cannot_be_merged() -> None:
    one = random_supervision(1, 4, 3, 0, end_to_end=False)
    two = random_supervision(2, 4, 3, 0, end_to_end=False)
    with pytest.raises(NnetError, match="merged before cannot be merged again"):
        merge_supervisions([two, one])
    with pytest.raises(NnetError, match="differ in weight, frames, number of pdfs"):
        merge_supervisions([one, replace(one, weight=0.5)])
