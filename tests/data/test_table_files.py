"""Tables in files: what Kaldi wrote is read, what we write is what Kaldi writes."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnet.data.errors import TableError
from nnet.data.locations import Location, parse_location
from nnet.data.matrices import (
    read_matrix,
    read_vector_or_matrix,
    skip_matrix,
    write_matrix,
    write_vector,
)
from nnet.data.streams import ByteReader
from nnet.data.tables import RandomAccess, random_access, read_matrices, read_table
from nnet.data.writers import MatrixWriter, VectorWriter
from nnet.errors import NnetError

GOLDEN = Path(__file__).parents[1] / "golden" / "nets" / "tdnnf"


def reader_of(data: bytes) -> ByteReader:
    return ByteReader(io.BufferedReader(io.BytesIO(data)), "data")


def written(matrix: np.ndarray, binary: bool = True) -> bytes:
    stream = io.BytesIO()
    write_matrix(stream, matrix, binary)
    return stream.getvalue()


@pytest.fixture
def matrices() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {f"u{i}": random.standard_normal((9 + i, 4)).astype(np.float32) for i in range(3)}


@pytest.fixture
def table(tmp_path: Path, matrices: dict[str, np.ndarray]) -> Path:
    with MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        for name, matrix in matrices.items():
            writer.write(name, matrix)
    return tmp_path


def test_an_archive_of_kaldi_is_written_back_byte_for_byte(tmp_path: Path) -> None:
    source = GOLDEN / "feats.ark"
    with MatrixWriter(f"ark:{tmp_path}/copy.ark") as writer:
        for name, matrix in read_matrices(f"ark:{source}"):
            writer.write(name, matrix)
    assert (tmp_path / "copy.ark").read_bytes() == source.read_bytes()


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5)))
def test_a_matrix_survives_the_binary_form(matrix: np.ndarray) -> None:
    np.testing.assert_array_equal(read_matrix(reader_of(written(matrix))), matrix)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_a_matrix_survives_the_text_form_to_seven_digits(matrix: np.ndarray) -> None:
    back = read_matrix(reader_of(written(matrix, binary=False)))
    np.testing.assert_allclose(back, matrix, rtol=1e-6)


def test_text_has_the_form_of_kaldi() -> None:
    assert written(np.array([[1, -0.5], [1e-5, 3e10]], np.float32), binary=False) == (
        b" [\n  1 -0.5 \n  1e-05 3e+10 ]\n"
    )
    stream = io.BytesIO()
    write_vector(stream, np.array([1, 2], np.float32), binary=False)
    assert stream.getvalue() == b" [ 1 2 ]\n"


@pytest.mark.parametrize("method", [2, 3, 5])
def test_compressed_matrices_are_read_as_kaldiio_reads_them(
    tmp_path: Path, matrices: dict[str, np.ndarray], method: int
) -> None:
    path = tmp_path / "c.ark"
    kaldiio.save_ark(str(path), matrices, compression_method=method)
    theirs = dict(kaldiio.load_ark(str(path)))
    for name, matrix in read_matrices(f"ark:{path}"):
        np.testing.assert_allclose(matrix, theirs[name], rtol=2e-6, atol=1e-6)
    access = random_access(f"ark:{path}")
    assert access.shape("u1") == (10, 4)
    np.testing.assert_allclose(access["u2"], theirs["u2"], rtol=2e-6, atol=1e-6)


def test_double_precision_becomes_single(tmp_path: Path) -> None:
    kaldiio.save_ark(str(tmp_path / "d.ark"), {"u": np.array([[1.5, 2.5]])})
    (entry,) = read_matrices(f"ark:{tmp_path}/d.ark")
    assert entry[1].dtype == np.float32
    assert entry[1].tolist() == [[1.5, 2.5]]


def test_vectors_and_matrices_of_ivectors_are_both_rows(tmp_path: Path) -> None:
    with VectorWriter(f"ark:{tmp_path}/v.ark") as writer:
        writer.write("u", np.array([1, 2, 3], np.float32))
    assert RandomAccess(f"ark:{tmp_path}/v.ark", read_vector_or_matrix)["u"].shape == (1, 3)


@pytest.mark.parametrize(
    "rspecifier", ["ark:{}/a.ark", "scp:{}/a.scp", "ark:cat {}/a.ark |", "scp:cat {}/a.scp |"]
)
def test_all_ways_in_give_the_same_table(
    table: Path, matrices: dict[str, np.ndarray], rspecifier: str
) -> None:
    rspecifier = rspecifier.format(table)
    in_order = list(read_matrices(rspecifier))
    at_random = random_access(rspecifier)
    assert [name for name, _ in in_order] == list(at_random) == list(matrices)
    for name, matrix in in_order:
        np.testing.assert_array_equal(matrix, matrices[name])
        np.testing.assert_array_equal(at_random[name], matrices[name])
        assert at_random.shape(name) == matrices[name].shape


def test_standard_input_and_output(table: Path) -> None:
    program = (
        "from nnet.data.tables import read_matrices\n"
        "from nnet.data.writers import MatrixWriter\n"
        "with MatrixWriter('ark:-') as writer:\n"
        "    for entry in read_matrices('ark:-'):\n"
        "        writer.write(*entry)\n"
    )
    data = (table / "a.ark").read_bytes()
    run = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == data


def test_pipes_out(tmp_path: Path) -> None:
    with MatrixWriter(f"ark:| gzip -c > {tmp_path}/a.gz") as writer:
        writer.write("u", np.ones((1, 2), np.float32))
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"u " + written(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("a.ark:17", Location("a.ark", 17)),
        ("a.mat", Location("a.mat")),
        ("C:x:5[0:9]", Location("C:x", 5, rows=(0, 9))),
        ("a.ark:5[0:9,3:5]", Location("a.ark", 5, (0, 9), (3, 5))),
        ("a.ark:5[:,3:5]", Location("a.ark", 5, None, (3, 5))),
        ("cat a |", Location("cat a |")),
    ],
)
def test_places_in_script_files(text: str, location: Location) -> None:
    assert parse_location(text, "x.scp:1") == location


def test_ranges_are_inclusive_and_may_miss_two_frames_at_the_end(
    table: Path, matrices: dict[str, np.ndarray]
) -> None:
    line = (table / "a.scp").read_text().splitlines()[0]
    (table / "r.scp").write_text(f"{line}[2:10,1:2]\n")
    access = random_access(f"scp:{table}/r.scp")
    np.testing.assert_array_equal(access["u0"], matrices["u0"][2:, 1:3])
    assert access.shape("u0") == (7, 2)
    (table / "r.scp").write_text(f"{line}[2:11]\n")
    with pytest.raises(TableError, match="9 rows"):
        access = random_access(f"scp:{table}/r.scp")["u0"]


def test_a_failed_writer_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(b"old")
    with (
        pytest.raises(TableError),
        MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer,
    ):
        writer.write("a bad name", np.ones((1, 1), np.float32))
    assert (tmp_path / "a.ark").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.ark"]


def test_a_device_is_written_to_and_not_replaced() -> None:
    with MatrixWriter("ark:/dev/null") as writer:
        writer.write("u", np.ones((1, 1), np.float32))
    assert not Path("/dev/null").is_file()


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(NnetError, match=r"/nowhere/a.ark: cannot write: No such file"):
        MatrixWriter("ark:/nowhere/a.ark").__enter__()


@pytest.mark.parametrize("name", ["", "two words"])
def test_names_must_be_single_words(tmp_path: Path, name: str) -> None:
    with MatrixWriter(f"ark:{tmp_path}/a.ark") as writer:
        writer.write("u", np.ones((1, 1), np.float32))
        with pytest.raises(TableError, match="names without spaces"):
            writer.write(name, np.ones((1, 1), np.float32))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(TableError, match=r"no.ark: cannot read: No such file"):
        list(read_matrices("ark:no.ark"))
    with pytest.raises(TableError, match=r"no.scp: cannot read"):
        random_access("scp:no.scp")


def test_a_missing_file_in_a_script_is_named_with_the_utterance(tmp_path: Path) -> None:
    (tmp_path / "a.scp").write_text("u1 /nowhere/x.ark:5\n")
    with pytest.raises(TableError, match=r"/nowhere/x.ark, utterance 'u1': cannot read"):
        list(read_matrices(f"scp:{tmp_path}/a.scp"))


def test_a_failed_command_is_an_error() -> None:
    with pytest.raises(TableError, match=r"false \|: the command failed with status 1"):
        list(read_matrices("ark:false |"))


def test_a_command_that_takes_no_data_is_an_error() -> None:
    with (
        pytest.raises(TableError, match="before it took all the data"),
        MatrixWriter("ark:| exec false") as writer,
    ):
        writer.write("u", np.ones((1000, 1000), np.float32))


def test_a_gzipped_file_needs_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(gzip.compress(b"x"))
    with pytest.raises(TableError, match=r"use 'ark:gunzip -c .*a.ark \|'"):
        list(read_matrices(f"ark:{tmp_path}/a.ark"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"u \0BFM \4\2\0\0\0\4\2\0\0\0abcd", "utterance 'u', byte 17: the data ends"),
        (b"u \0BFM \4\xff\xff\xff\x7f\4\xff\xff\xff\x7fabcd", "the data ends inside a block"),
        (b"u \0BFM \4\xff\xff\xff\xff\4\2\0\0\0", "a matrix of -1 by 2"),
        (b"u \0BXX \4\2\0\0\0", "found the token 'XX'"),
        (b"u \0BFM \5\2\0\0\0\4\2\0\0\0", "an integer of 5 bytes"),
        (b"u \0AFM ", "a zero byte that is not followed by B"),
        (b"u \0BFV \4\1\0\0\0abcd", "a vector of 1 numbers"),
        (b"u [\n 1 2\n 3 ]\n", "row 1 has 1 numbers and row 0 has 2"),
        (b"u [\n 1 x ]\n", "expected: numbers"),
        (b"u [\n 1 2\n", "the file ends inside a matrix"),
        (b"u 1 2 3\n", "found '1 2 3'"),
        (b"u \x80\7\n", r"found '\x80\x07'"),
        (b"u \0B\xe9M \4\2\0\0\0", r"found the token '\xe9M'"),
        (b"\xff\xfe\0\0 x", "where an utterance name should be"),
        (b"<Nnet3> \n", "this is a network of nnet3 (.raw)"),
    ],
)
def test_damage_is_reported_with_its_place(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.ark").write_bytes(data)
    with pytest.raises(TableError) as caught:
        list(read_matrices(f"ark:{tmp_path}/a.ark"))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{'ark:' if 'second' in message else ''}{tmp_path}")


def test_a_matrix_that_is_passed_over_is_there_to_its_end(table: Path) -> None:
    data = (table / "a.ark").read_bytes()
    (table / "cut.ark").write_bytes(data[:-9])
    names = [name for name, _ in read_matrices(f"ark:{table}/a.ark")]
    with pytest.raises(TableError) as caught:
        list(read_table(f"ark:{table}/cut.ark", skip_matrix))
    found = re.fullmatch(
        r".*/cut.ark, utterance '(.*)', byte (\d+): the data ends inside a block of (\d+) bytes\n"
        "the file was cut short: write it again",
        str(caught.value),
    )
    assert found is not None
    assert found[1] == names[-1]
    assert int(found[2]) + int(found[3]) == len(data)


def test_every_truncation_is_a_clean_error_or_a_shorter_table(table: Path) -> None:
    data = (table / "a.ark").read_bytes()
    for length in range(len(data)):
        (table / "cut.ark").write_bytes(data[:length])
        try:
            names = [name for name, _ in read_matrices(f"ark:{table}/cut.ark")]
        except TableError:
            continue
        assert names == ["u0", "u1", "u2"][: len(names)]


def test_permissive_tables_leave_out_what_is_damaged(table: Path) -> None:
    good = (table / "a.scp").read_text()
    (table / "p.scp").write_text(f"bad /nowhere:3\n{good}")
    assert [n for n, _ in read_matrices(f"scp,p:{table}/p.scp")] == ["u0", "u1", "u2"]
    assert "bad" not in RandomAccess(f"scp,p:{table}/p.scp", read_matrix)
    data = (table / "a.ark").read_bytes()
    (table / "cut.ark").write_bytes(data[:-5])
    assert [n for n, _ in read_matrices(f"ark,p:{table}/cut.ark")] == ["u0", "u1"]


def test_a_script_line_needs_two_fields(tmp_path: Path) -> None:
    (tmp_path / "a.scp").write_text("u1 a.ark:3\nu2\n")
    with pytest.raises(TableError, match=r"a.scp:2: found 1 fields"):
        random_access(f"scp:{tmp_path}/a.scp")


def test_an_utterance_that_comes_twice_is_given_twice_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.ark").write_bytes(b"u [\n 1 ]\nv [\n 2 ]\nu [\n 3 ]\n")
    found = list(read_matrices(f"ark:{tmp_path}/a.ark"))
    assert [(name, rows[0, 0]) for name, rows in found] == [("u", 1), ("v", 2), ("u", 3)]
    assert "1 entries have names that came before (first: 'u'); each was used" in caplog.text
    with MatrixWriter(f"ark:{tmp_path}/b.ark") as writer:
        for name, rows in found:
            writer.write(name, rows)
    assert [name for name, _ in read_matrices(f"ark:{tmp_path}/b.ark")] == ["u", "v", "u"]


@pytest.mark.parametrize("kind", ["ark", "scp", "cat"])
def test_by_name_an_utterance_is_there_once(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a.ark"
    archive.write_bytes(b"u [\n 1 ]\nu [\n 3 ]\n")
    (tmp_path / "a.scp").write_text(f"u {archive}:2\nu {archive}:2\n")
    specifiers = {"ark": f"ark:{archive}", "scp": f"scp:{archive.with_suffix('.scp')}"}
    with pytest.raises(TableError, match="utterance 'u': a second entry of the same name"):
        random_access(specifiers.get(kind, f"ark:cat {archive} |"))


def test_option_p_says_what_it_leaves_out(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "p.scp").write_text(f"bad {tmp_path}/no.ark:2\nu {table}/a.ark:3\n")
    list(read_matrices(f"scp,p:{tmp_path}/p.scp"))
    assert "1 of 2 entries cannot be read and are left out" in caplog.text
    assert "no.ark, utterance 'bad': cannot read: No such file" in caplog.text
    caplog.clear()
    RandomAccess(f"scp,p:{tmp_path}/p.scp", read_matrix)
    assert "1 of 2 entries cannot be read and are left out" in caplog.text
    caplog.clear()
    (tmp_path / "cut.ark").write_bytes(b"u [\n 1 ]\nv [\n 1 x ]\n")
    assert [name for name, _ in read_matrices(f"ark,p:{tmp_path}/cut.ark")] == ["u"]
    assert "used up to its first damage only" in caplog.text
    assert "found 'x' in a matrix of text" in caplog.text


@pytest.mark.parametrize("path", ["a.ark", "./a.ark"])
def test_archive_and_script_must_be_two_files(tmp_path: Path, path: str) -> None:
    with pytest.raises(TableError, match="archive and script file are the same file"):
        MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/{path}")


def copied(source: str, target: str) -> None:
    with MatrixWriter(target) as writer:
        for name, rows in read_matrices(source):
            writer.write(name, rows)


def test_an_error_of_reading_while_writing_names_what_was_read(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"^/proc/self/mem: cannot read"):
        copied("ark:/proc/self/mem", f"ark:{tmp_path}/out.ark")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_output() -> None:
    with pytest.raises(NnetError, match=r"^/dev/full: cannot write: No space left on device"):
        copied(f"ark:{GOLDEN}/feats.ark", "ark:/dev/full")


@pytest.mark.parametrize("specifier", ["ark:echo u |", "scp:echo u a.ark |"])
def test_shell_commands_can_be_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, specifier: str
) -> None:
    monkeypatch.setenv("NNET_NO_PIPES", "1")
    with pytest.raises(TableError, match="shell commands are forbidden"):
        list(read_matrices(specifier))
    with pytest.raises(TableError, match="shell commands are forbidden"):
        copied(f"ark:{GOLDEN}/feats.ark", "ark:| cat")
    (tmp_path / "a.scp").write_text(f"u touch {tmp_path}/made |\n")
    with pytest.raises(TableError, match=r"touch .*made \|: this is a shell command"):
        list(read_matrices(f"scp:{tmp_path}/a.scp"))
    assert not (tmp_path / "made").exists()
