"""Recordings: formats, and files that are not what they say."""

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.streams import ByteReader
from nnet.data.writers import TableWriter
from nnet.errors import NnetError
from nnet.speech.waves import Wave, load_wave, read_wave, read_waves, write_wave
from tests.speech.digits import DIGITS, RATE, samples

PATH = DIGITS / "dev" / "wav" / "theo-001.wav"
DATA = PATH.read_bytes()


def riff(data=b"", tag=1, channels=1, bits=16, rate=RATE, size=None, extra=b""):
    """A wav file."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)
    size = len(data) if size is None else size
    chunks = b"WAVE" + extra + b"fmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def load(tmp_path, content, name="x.wav"):
    (tmp_path / name).write_bytes(content)
    return load_wave(str(tmp_path / name))


def test_samples_are_those_of_the_file():
    with wave.open(str(PATH)) as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        assert file.getframerate() == RATE
    loaded = load_wave(str(PATH))
    np.testing.assert_array_equal(loaded.samples, expected[None])
    assert (loaded.sample_frequency, loaded.channels) == (RATE, 1)
    assert loaded.duration == pytest.approx(len(expected) / RATE)


@pytest.mark.parametrize(
    ("tag", "bits", "encode"),
    [
        (1, 8, lambda x: (x / 256 + 128).astype(np.uint8).tobytes()),
        (1, 24, lambda x: b"".join(int(v * 256).to_bytes(3, "little", signed=True) for v in x)),
        (1, 32, lambda x: (x * 65536).astype("<i4").tobytes()),
        (3, 32, lambda x: (x / 32768).astype("<f4").tobytes()),
        (3, 64, lambda x: (x / 32768).astype("<f8").tobytes()),
    ],
)
def test_every_width_gives_the_range_of_16_bits(tag, bits, encode, tmp_path):
    values = np.array([0.0, 256.0, -512.0, 32512.0, -32768.0])
    loaded = load(tmp_path, riff(encode(values), tag, bits=bits))
    np.testing.assert_array_equal(loaded.samples[0], values)


def test_channels(tmp_path):
    loaded = load(tmp_path, riff(np.array([1, 2, 3, 4], "<i2").tobytes(), channels=2))
    assert loaded.channel(0, "x").tolist() == [1, 3]
    assert loaded.channel(1, "x").tolist() == [2, 4]
    with pytest.raises(NnetError, match=r"x: the recording has 2 channels, .*--channel 0"):
        loaded.channel(-1, "x")
    with pytest.raises(NnetError, match="there is no channel 2"):
        loaded.channel(2, "x")


def test_other_chunks_are_passed_over(tmp_path):
    odd = b"LIST\x03\0\0\0abc\0"
    loaded = load(tmp_path, riff(b"\1\0\2\0", extra=odd) + odd)
    assert loaded.samples.tolist() == [[1, 2]]


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_sizes_that_a_pipe_could_not_know(size, tmp_path):
    assert load(tmp_path, riff(b"\1\0\2\0", size=size)).samples.tolist() == [[1, 2]]


def test_a_command_and_an_archive(tmp_path):
    script = tmp_path / "wav.scp"
    script.write_text(f"a {PATH}\nb cat {PATH} |\n")
    for _, loaded in read_waves(f"scp:{script}"):
        np.testing.assert_array_equal(loaded.samples[0], samples("theo-001"))
    with TableWriter(f"ark,scp:{tmp_path}/w.ark,{tmp_path}/w.scp", write_wave) as writer:
        writer.write("a", load_wave(str(PATH)))
        writer.write("b", Wave(np.full((2, 3), 40000.0, np.float32), 16000.0))
    for table in (f"ark:{tmp_path}/w.ark", f"scp:{tmp_path}/w.scp"):
        (_, first), (_, second) = read_waves(table)
        np.testing.assert_array_equal(first.samples[0], samples("theo-001"))
        np.testing.assert_array_equal(second.samples, np.full((2, 3), 32767.0))


@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_formats_that_soundfile_knows(form, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    stream = io.BytesIO()
    soundfile.write(stream, samples("theo-001") / 32768, RATE, format=form)
    loaded = load(tmp_path, stream.getvalue(), "x.sound")
    assert loaded.sample_frequency == RATE
    if form == "FLAC":
        np.testing.assert_array_equal(loaded.samples[0], samples("theo-001"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty"),
        (DATA[:-100], r"the header says 13184 bytes of samples, the file has 13084"),
        (DATA + b"\1\2\3\4" * 5, r"20 bytes after the samples; the header says 13184 bytes"),
        (DATA[:30], r"ends inside a block"),
        (DATA[:20], r"ends inside a block"),
        (riff(b""), r"the recording has no samples"),
        (riff(b"\1\0\2"), r"3 bytes of samples"),
        (riff(struct.pack("<2f", 1, np.nan), 3, bits=32), r"sample 1 of channel 0 is nan"),
        (riff(b"\0" * 8, tag=7, bits=8), r"samples of wav format 7 with 8 bits"),
        (riff(b"\0" * 8, channels=0), r"0 channels at 8000 Hz"),
        (b"RIFF\0\0\0\0AVI ", r"a RIFF file that is no wav file"),
        (b"<html>no sound</html>", r"no sound"),
    ],
)
def test_damaged_files(content, message, tmp_path):
    with pytest.raises(NnetError, match=f"x.wav, byte .*{message}"):
        load(tmp_path, content)


def test_a_header_that_asks_for_too_much_memory(tmp_path):
    with pytest.raises(NnetError, match="4294967280 bytes of samples, the file has 4"):
        load(tmp_path, riff(b"\1\0\2\0", size=0xFFFFFFF0))


def test_a_missing_file():
    with pytest.raises(NnetError, match="cannot read"):
        load_wave("/nowhere/x.wav")


@given(st.integers(0, 60), st.binary(max_size=8), st.integers(0, len(DATA)))
def test_damaged_bytes_are_an_error_or_a_recording(place, damage, length):
    content = bytearray(DATA[:length])
    content[place : place + len(damage)] = damage
    reader = ByteReader(io.BufferedReader(io.BytesIO(bytes(content))), "x.wav")
    try:
        found, message = read_wave(reader).samples, "x.wav"
    except NnetError as error:
        found, message = np.zeros(1), str(error)
    assert message.startswith("x.wav")
    assert found.size
    assert np.isfinite(found).all()
