"""Token streams: what is read and written, and how errors name the place."""

from __future__ import annotations

import struct
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnet.errors import NnetError
from nnet.modelfile.loading import open_bytes, read_matrix, read_vector
from nnet.modelfile.tokens import BinaryReader, TextReader
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer

FORMS = [BinaryWriter, TextWriter]
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=finite
)


def message(data: bytes, method: str) -> str:
    with pytest.raises(NnetError) as caught:
        getattr(open_bytes(data, "f"), method)()
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@given(integer=st.integers(-(2**31), 2**31 - 1), double=st.floats(-1e6, 1e6), flag=st.booleans())
def test_basic_values(form: type[Writer], integer: int, double: float, flag: bool) -> None:
    writer = form()
    writer.token("<A>")
    writer.integer(integer)
    writer.double(double)
    writer.real(0.5)
    writer.boolean(flag)
    writer.integers([integer, 0])
    reader = open_bytes(bytes(writer), "f")
    assert reader.token() == "<A>"
    assert reader.integer() == integer
    assert reader.double() == pytest.approx(double, rel=1e-6)
    assert reader.real() == 0.5
    assert reader.boolean() is flag
    assert reader.integers() == (integer, 0)
    assert reader.peek_token() is None


@pytest.mark.parametrize("form", FORMS)
@given(matrix=matrices)
def test_arrays(form: type[Writer], matrix: np.ndarray) -> None:
    writer = form()
    writer.token("<M>")
    writer.matrix(matrix)
    writer.vector(matrix[0])
    writer.vector(None)
    reader = open_bytes(bytes(writer), "f")
    reader.expect("<M>")
    np.testing.assert_allclose(reader.matrix(), matrix, rtol=1e-6, atol=1e-44)
    np.testing.assert_allclose(reader.vector(), matrix[0], rtol=1e-6, atol=1e-44)
    assert reader.vector().size == 0


def test_double_arrays_are_read_as_float32() -> None:
    data = b"\0BDV \x04\x02\0\0\0" + struct.pack("<dd", 1.5, 0.1)
    vector = open_bytes(data, "f").vector()
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, np.array([1.5, 0.1], np.float32))


@pytest.mark.parametrize("method", [1, 2, 3, 5])
def test_compressed_matrices(tmp_path: Path, method: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((20, 7)).astype(np.float32)
    path = str(tmp_path / "m.ark")
    kaldiio.save_ark(path, {"a": matrix}, compression_method=method)
    data = Path(path).read_bytes()[2:]
    expected = next(iter(kaldiio.load_ark(path)))[1]
    np.testing.assert_allclose(open_bytes(data, "f").matrix(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", np.zeros((0, 0))),
        (" [ ]\n", np.zeros((0, 0))),
        ("[ 1 2 ]", [[1, 2]]),
        (" [\n  1 -2e1\n  inf 4 ]\n", [[1, -20], [np.inf, 4]]),
        ("[ 1 2 ; 3 4 ]", [[1, 2], [3, 4]]),
    ],
)
def test_text_matrices(tmp_path: Path, text: str, expected: object) -> None:
    path = tmp_path / "m.txt"
    path.write_text(text)
    np.testing.assert_array_equal(read_matrix(path), np.array(expected, np.float32))


def test_text_vectors(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text(" [ 1 2.5 3 ]\n")
    np.testing.assert_array_equal(read_vector(path), np.array([1, 2.5, 3], np.float32))


@pytest.mark.parametrize(
    ("data", "method", "expected"),
    [
        (b"\0B\x08abcd", "integer", "byte 2: expected the size byte 4 of an int32"),
        (
            b"\0B\x04ab",
            "integer",
            "byte 2: expected 5 bytes of an int32, found only 3 before the end of the file",
        ),
        (b"\0B\x05abcd", "real", "byte 2: expected the size byte (4 or 8) of a number"),
        (b"\0BX", "boolean", "byte 2: expected T or F, found 'X'"),
        (b"\0BFM \x04\0", "vector", "byte 2: expected FV or DV, found 'FM'"),
        (b"\0BFV \x04\xff\xff\xff\x7f", "vector", "bytes of a vector, found only 0"),
        (b"\0BFV \x04\xff\xff\xff\xff", "vector", "the length of a vector, found -1"),
        (
            b"\0BFM \x04\xff\xff\xff\x7f\x04\xff\xff\xff\x7f",
            "matrix",
            "expected 18446744056529682436 bytes of a matrix, found only 0",
        ),
        (b"\0BCM " + struct.pack("<ffii", 0, 1, -1, 3), "matrix", "found -1 x 3"),
        (b"\0B\x04\xff\xff\xff\x7f", "integers", "bytes of a vector of integers"),
        (b"12x ", "integer", "byte 0: expected an integer, found '12x '"),
        (b"3000000000 ", "integer", "expected an integer of 32 bits"),
        (b"1.0.0 ", "real", "expected a number"),
        (
            b"[ 1 2",
            "vector",
            "] at the end of a vector, found the end of the file; the file was cut short",
        ),
        (b"[ 1\n2 ]", "vector", "expected a vector in one line"),
        (b"[ 1 2\n3 ]", "matrix", "a matrix with 2 columns in every row, found a row with 1"),
        (b"[ 1 x ]", "matrix", "expected numbers, found 'x'"),
        (b"[ 1_0 ]", "matrix", "expected numbers, found '1_0'"),
        (b"[ 1 2.5 ]", "integers", "a vector of integers of 32 bits, found '2.5'"),
        (b"FV", "vector", "expected a vector that begins with ["),
    ],
)
def test_errors_name_the_place_and_what_was_expected(
    data: bytes, method: str, expected: str
) -> None:
    text = message(data, method)
    assert text.startswith("f: byte ")
    assert expected in text


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"<Nnet", "'<Nnet' before the end of the file; the file was cut short"),
        (b"<Nnex", "'<Nnex'"),
    ],
)
def test_a_token_that_was_cut_short_is_told_from_another(data: bytes, found: str) -> None:
    for reader in (BinaryReader(data, "f"), TextReader(data, "f")):
        with pytest.raises(NnetError) as error:
            reader.expect("<Nnet3>", "<Nnet2>")
        assert str(error.value) == f"f: byte 0: expected <Nnet3> or <Nnet2>, found {found}"


def test_expected_tokens() -> None:
    for reader in (BinaryReader(b"<A> <B> ", "f"), TextReader(b" <A>\n<B> ", "f")):
        assert reader.peek_token() == "<A>"
        assert reader.expect("<A>", "<X>") == "<A>"
        with pytest.raises(NnetError, match="expected <C> or <D>, found '<B>'"):
            reader.expect("<C>", "<D>")


def test_text_lists_of_integers_are_binary_ones() -> None:
    binary, text = BinaryWriter(), TextWriter()
    for writer in (binary, text):
        for number in (1, -2, 3):
            writer.integer(number)
    for writer in (binary, text):
        assert open_bytes(bytes(writer), "f").integer_list(3) == [1, -2, 3]
