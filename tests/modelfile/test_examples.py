"""nnet3's examples: the same bytes back, every form of matrix, and damaged ones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnet.errors import NnetError
from nnet.modelfile.examples import (
    Example,
    NnetIo,
    frame_indexes,
    merge_examples,
    read_example,
    read_indexes,
    write_example,
    write_indexes,
)
from nnet.modelfile.general_matrix import CompressedMatrix, FullMatrix, SparseMatrix
from nnet.modelfile.loading import open_bytes
from nnet.modelfile.streaming import StreamReader
from nnet.modelfile.writing import BinaryWriter, TextWriter

EGS = Path(__file__).parents[1] / "golden/training/frame_level"
FLOATS = st.floats(-1000, 1000, width=32)


def entries(path: Path) -> list[tuple[str, Example]]:
    with open(path, "rb") as file:
        reader = StreamReader(file.read, path.name)
        found = []
        while not reader.at_end():
            key = reader.token()
            reader.begin_object()
            found.append((key, read_example(reader)))
        return found


def binary(example: Example) -> bytes:
    writer = BinaryWriter()
    write_example(writer, example)
    return bytes(writer)


def text(example: Example) -> bytes:
    writer = TextWriter()
    write_example(writer, example)
    return bytes(writer)


@pytest.mark.parametrize("name", ["egs.ark", "egs_compressed_unmerged.ark"])
def test_kaldis_examples_are_written_back_byte_for_byte(name: str) -> None:
    found = b"".join(f"{key} ".encode() + binary(eg) for key, eg in entries(EGS / name))
    assert found == (EGS / name).read_bytes()


@pytest.mark.parametrize("name", ["egs.ark", "egs_compressed_unmerged.ark"])
def test_the_text_form_can_be_read_back(name: str) -> None:
    for _, example in entries(EGS / name)[:3]:
        written = text(example)
        assert text(read_example(open_bytes(written, "text"))) == written


def test_compressing_again_what_kaldi_compressed_gives_its_codes() -> None:
    for _, example in entries(EGS / "egs_compressed_unmerged.ark"):
        for part in example.io:
            if isinstance(part.features, CompressedMatrix):
                again = CompressedMatrix.of(part.features.dense())
                assert again.token == part.features.token
                assert again.content[16:] == part.features.content[16:]


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=FLOATS)
)
@pytest.mark.parametrize(("token", "steps"), [("CM", 120), ("CM2", 60000), ("CM3", 250)])
def test_compression_loses_little(token: str, steps: int, matrix: np.ndarray) -> None:
    spread = np.ptp(matrix) or 1.0 + abs(matrix.max())
    back = CompressedMatrix.of(matrix, token).dense()
    assert np.abs(back - matrix).max() <= spread / steps + 1e-6 * np.abs(matrix).max()


@given(
    st.lists(
        st.tuples(*(st.integers(-(2**31), 2**31 - 1),) * 3) | st.integers(-130, 130), max_size=40
    )
)
def test_any_indexes_survive(steps: list[tuple[int, int, int] | int]) -> None:
    rows = [(0, 0, 0)]
    for step in steps:
        n, t, x = rows[-1]
        close = isinstance(step, int) and abs(t + step) < 2**31
        rows.append((n, t + step, x) if close else step if isinstance(step, tuple) else (n, 0, x))
    indexes = np.array(rows, np.int32)
    for writer in (BinaryWriter(), TextWriter()):
        write_indexes(writer, indexes)
        reader = open_bytes(bytes(writer), "indexes")
        assert (read_indexes(reader) == indexes).all()


@given(st.lists(st.dictionaries(st.integers(0, 9), FLOATS, max_size=3), min_size=1, max_size=8))
def test_sparse_rows_of_any_length_survive(rows: list[dict[int, float]]) -> None:
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    ids = np.array([i for row in rows for i in row], np.int32)
    weights = np.array([w for row in rows for w in row.values()], np.float32)
    matrix = SparseMatrix(10, offsets, ids, weights)
    example = Example((NnetIo("output", frame_indexes(0, len(rows)), matrix),))
    for written in (binary(example), text(example)):
        found = read_example(open_bytes(written, "sparse")).io[0].features
        assert isinstance(found, SparseMatrix)
        np.testing.assert_allclose(found.dense(), matrix.dense(), rtol=1e-6)


def test_merging_numbers_the_sequences_one_after_the_other() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    one = Example((NnetIo("input", frame_indexes(-1, 4), FullMatrix(values)),))
    twice = merge_examples([one, one])
    merged = merge_examples([twice, twice]).io[0]
    assert merged.indexes[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert merged.indexes[:, 1].tolist() == [-1, 0, 1, 2] * 4
    np.testing.assert_array_equal(merged.features.dense(), np.tile(values, (4, 1)))


def test_examples_of_different_dimension_cannot_be_merged() -> None:
    examples = [
        Example((NnetIo("input", frame_indexes(0, 1), FullMatrix(np.zeros((1, d), np.float32))),))
        for d in (3, 4)
    ]
    with pytest.raises(NnetError, match=r"differ in dimension: \[3, 4\]"):
        merge_examples(examples)


def test_a_cut_example_is_named_with_its_byte() -> None:
    key, example = entries(EGS / "egs.ark")[0]
    whole = f"{key} ".encode() + binary(example)
    for size in range(len(key) + 3, len(whole) - 12, 97):
        stream = io.BytesIO(whole[:size])
        reader = StreamReader(stream.read, "cut.ark")
        reader.token()
        reader.begin_object()
        with pytest.raises(NnetError, match=r"cut\.ark: byte \d+: expected"):
            read_example(reader)


def test_infinite_features_are_not_compressed() -> None:
    with pytest.raises(NnetError, match="NaN or infinity cannot be compressed"):
        CompressedMatrix.of(np.full((2, 2), np.inf, np.float32))
