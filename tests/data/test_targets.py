"""Targets: three kinds, told apart by content and checked against the network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.errors import TableError
from nnet.data.posteriors import Posterior, write_alignment, write_posterior
from nnet.data.streams import ByteReader
from nnet.data.tables import read_table
from nnet.data.targets import (
    TargetKind,
    check_features,
    check_target,
    frames_per_target,
    read_target,
    unify,
)
from nnet.data.writers import AlignmentWriter, MatrixWriter, PosteriorWriter

POSTERIOR = Posterior.of([[(3, 0.25), (0, 0.75)], [], [(7, 1.0)]])
pairs = st.tuples(st.integers(0, 2**31 - 1), st.floats(0, 1, width=32))


def frames(posterior: Posterior) -> list[list[tuple[int, float]]]:
    return [posterior.frame(t) for t in range(len(posterior))]


def read_one(data: bytes) -> Any:
    return read_target(ByteReader(io.BufferedReader(io.BytesIO(data)), "data"))


@pytest.mark.parametrize("form", ["ark", "ark,t"])
def test_the_kinds_are_told_apart_in_binary_and_text(tmp_path: Path, form: str) -> None:
    place = f"{form}:{tmp_path}/x.ark"
    with AlignmentWriter(place) as alignments:
        alignments.write("u", np.array([5, 0, 7]))
        alignments.write("v", np.array([4]))
    found = dict(read_table(place, read_target))
    assert [target.tolist() for target in found.values()] == [[5, 0, 7], [4]]
    assert TargetKind.of(found["u"]) is TargetKind.ALIGNMENT
    with PosteriorWriter(place) as posteriors:
        posteriors.write("u", POSTERIOR)
        posteriors.write("v", POSTERIOR)
    found = dict(read_table(place, read_target))
    assert frames(found["v"]) == frames(POSTERIOR)
    assert TargetKind.of(found["u"]) is TargetKind.POSTERIOR
    with MatrixWriter(place) as matrices:
        matrices.write("u", np.eye(2, dtype=np.float32))
    found = dict(read_table(place, read_target))
    assert found["u"].tolist() == [[1, 0], [0, 1]]
    assert TargetKind.of(found["u"]) is TargetKind.MATRIX


def test_alignments_of_kaldiio_are_read(tmp_path: Path) -> None:
    ids = np.array([1, 2, 2], np.int32)
    kaldiio.save_ark(str(tmp_path / "a.ark"), {"u": ids})
    (entry,) = read_table(f"ark:{tmp_path}/a.ark", read_target)
    np.testing.assert_array_equal(entry[1], ids)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.booleans())
def test_alignments_survive_both_forms(ids: list[int], binary: bool) -> None:
    stream = io.BytesIO()
    write_alignment(stream, np.array(ids, np.int32), binary)
    assert read_one(stream.getvalue()).tolist() == ids


@given(st.lists(st.lists(pairs, max_size=4), max_size=6).filter(any))
def test_posteriors_survive_the_binary_form(listed: list[list[tuple[int, float]]]) -> None:
    stream = io.BytesIO()
    write_posterior(stream, Posterior.of(listed))
    assert frames(read_one(stream.getvalue())) == listed


@given(st.binary(max_size=40))
def test_bytes_at_random_are_a_clean_error_or_targets(data: bytes) -> None:
    for start in (b"", b"\0B", b"\0B\4"):
        try:
            read_one(start + data)
        except TableError:
            continue


def test_text_has_the_form_of_kaldi() -> None:
    stream = io.BytesIO()
    write_posterior(stream, POSTERIOR, binary=False)
    assert stream.getvalue() == b"[ 3 0.25 0 0.75 ] [ ] [ 7 1 ] \n"


def test_zeros_alone_become_a_posterior_without_pairs_where_others_are_posteriors() -> None:
    unified = unify(np.zeros(3, np.int32), TargetKind.POSTERIOR)
    assert isinstance(unified, Posterior)
    assert frames(unified) == [[], [], []]
    assert isinstance(unify(np.zeros(3, np.int32), TargetKind.ALIGNMENT), np.ndarray)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1 2 x\n", "found 'x' in an alignment"),
        (b"1 2.5\n", "found '2.5' in an alignment"),
        (b"99999999999\n", "found '99999999999' in an alignment"),
        (b"9999999999\n", "found '9999999999' in an alignment"),
        (b"[ 1 0.5 2 ]\n", "frame 0 is damaged"),
        (b"[ 1 0.5 ] 3\n", "the last frame has no closing bracket"),
        (b"[ 1 0.5 ] [ a 1 ]\n", "frame 1: "),
        (b"\0B\4\2\0\0\0\4\1\0\0\0\5\1\0\0\0", "an item that does not take 4 bytes"),
        (b"\0B\4\xff\xff\xff\xff", "a count of -1 frames"),
        (b"\0B\4\1\0\0\0\4\xff\xff\xff\xff\4\0\0\0\0", "a frame of -1 pairs"),
    ],
)
def test_damage_is_reported(line: bytes, message: str) -> None:
    with pytest.raises(TableError) as caught:
        read_one(line)
    assert message in str(caught.value)


def check(target: Any, kind: TargetKind, dim: int = 8) -> None:
    check_target("ark:t", "u1", target, kind, dim)


def test_a_target_that_is_no_output_is_named_with_utterance_frame_and_dimension() -> None:
    with pytest.raises(TableError) as caught:
        check(np.array([1, 8, 9]), TargetKind.ALIGNMENT)
    assert "ark:t, utterance 'u1': frame 1 has the target 8" in str(caught.value)
    assert "0 to 7, because the network's output has dimension 8" in str(caught.value)
    with pytest.raises(TableError, match="frame 2 has the target 7"):
        check(POSTERIOR, TargetKind.POSTERIOR, dim=7)
    with pytest.raises(TableError, match="frame 0 has the target -1"):
        check(np.array([-1]), TargetKind.ALIGNMENT)


def test_matrices_must_have_the_dimension_of_the_output() -> None:
    with pytest.raises(TableError, match=r"dimension 3\nexpected: 8, the dimension of"):
        check(np.ones((2, 3), np.float32), TargetKind.MATRIX)


def test_kinds_may_not_be_mixed() -> None:
    with pytest.raises(TableError, match=r"found matrices .*\nexpected: alignments"):
        check(np.ones((2, 8), np.float32), TargetKind.ALIGNMENT)


def test_numbers_that_are_not_finite_are_named_with_frame_and_column() -> None:
    features = np.ones((4, 3), np.float32)
    features[2, 1] = np.nan
    with pytest.raises(TableError, match="utterance 'u': feature nan at frame 2, column 1"):
        check_features("ark:f", "u", features)
    with pytest.raises(TableError, match="posterior weight inf at frame 0"):
        check(Posterior.of([[(1, float("inf"))]]), TargetKind.POSTERIOR)


@pytest.mark.parametrize(
    ("frames", "targets", "subsampling", "expected"),
    [
        (100, 100, 1, 1),
        (100, 98, 1, 1),
        (100, 102, 1, 1),
        (100, 97, 1, None),
        (100, 34, 3, 3),
        (100, 36, 3, 3),
        (100, 100, 3, 1),
        (100, 50, 3, None),
    ],
)
def test_targets_come_at_the_rate_of_input_or_output_with_a_tolerance_of_two(
    frames: int, targets: int, subsampling: int, expected: int | None
) -> None:
    assert frames_per_target(frames, targets, subsampling) == expected
