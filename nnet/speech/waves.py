"""Recorded sound: wav files by our own reader, other formats through soundfile.

Samples have the range of 16-bit integers, -32768 to 32767, whatever the file's format, as Kaldi's
features expect it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nnet.data.streams import PIECE, ByteReader, open_input
from nnet.data.tables import RandomAccess, read_table
from nnet.errors import NnetError

Floats = NDArray[np.float32]
FULL_SCALE = 32768.0
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
UNKNOWN_SIZES = (0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)
"""Sizes that programs write which cannot go back to the header: the data end with the stream."""
FORMATS = "a wav, flac, ogg, mp3, aiff or NIST sphere file"


@dataclass(frozen=True, eq=False)
class Wave:
    """A recording.

    Args:
        samples: (channels, samples).
        sample_frequency: Hz.
    """

    samples: Floats
    sample_frequency: float

    @property
    def channels(self) -> int:
        """How many there are."""
        return self.samples.shape[0]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.shape[1] / self.sample_frequency

    def channel(self, channel: int, name: str) -> Floats:
        """The samples of one channel, (samples,).

        Args:
            channel: from 0 on; -1: the only one.
            name: of the recording, for errors.

        Raises:
            NnetError: there is no such channel, or several and none was chosen.
        """
        if channel < 0 and self.channels > 1:
            raise NnetError(
                f"{name}: the recording has {self.channels} channels, expected one; choose one "
                "with --channel 0, --channel 1, ..."
            )
        if channel >= self.channels:
            raise NnetError(
                f"{name}: there is no channel {channel}; the recording has {self.channels}"
            )
        return self.samples[max(channel, 0)]


@dataclass(frozen=True)
class _Format:
    """What a wav header says about samples."""

    tag: int
    channels: int
    rate: int
    bits: int

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8

    def decode(self, data: bytes) -> Floats:
        """Samples, (channels, samples)."""
        width = self.bits // 8
        samples: NDArray[Any]
        if self.tag == FLOAT:
            samples = np.frombuffer(data, f"<f{width}") * FULL_SCALE
        elif width == 1:
            samples = (np.frombuffer(data, np.uint8) - 128.0) * 256.0
        elif width == 3:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = padded.view("<i4")[:, 0] / 65536.0
        else:
            samples = np.frombuffer(data, f"<i{width}").astype(np.float64) / 256.0 ** (width - 2)
        return np.ascontiguousarray(samples.reshape(-1, self.channels).T, np.float32)


def load_wave(path: str) -> Wave:
    """A recording from a file, `-` or a command that ends in `|`.

    Raises:
        NnetError: it cannot be read, is cut short, or holds no samples or samples that are no
            numbers.
    """
    with open_input(path) as reader:
        return read_wave(reader)


def read_waves(rspecifier: str) -> Iterator[tuple[str, Wave]]:
    """Names and recordings, such as `scp:wav.scp`, in the table's order."""
    return read_table(rspecifier, read_wave)


def waves_by_name(rspecifier: str) -> RandomAccess[Wave]:
    """Recordings by name."""
    return RandomAccess(rspecifier, read_wave)


def read_wave(reader: ByteReader) -> Wave:
    """The recording that begins here, in an archive or in a file of its own.

    Raises:
        TableError: see `load_wave`; with the byte offset.
    """
    alone = reader.offset == 0
    start = reader.some(4)
    if not start:
        raise reader.error("the file is empty", expected=FORMATS)
    if start in (b"RIFF", b"RIFX", b"RF64"):
        wave = _read_riff(reader, start, alone)
    elif alone:
        wave = _read_other(reader, start)
    else:
        raise reader.error(f"found {start!r}", expected="a wav file (RIFF) in an archive")
    if wave.samples.shape[1] == 0:
        raise reader.error("the recording has no samples")
    bad = ~np.isfinite(wave.samples)
    if bad.any():
        channel, sample = np.argwhere(bad)[0]
        raise reader.error(
            f"sample {sample} of channel {channel} is {wave.samples[channel, sample]}",
            expected="numbers",
        )
    return wave


def _read_riff(reader: ByteReader, start: bytes, alone: bool) -> Wave:
    if start != b"RIFF":
        raise reader.error(f"found {start!r}", expected="a wav file that begins with RIFF")
    reader.take(4)
    if reader.take(4) != b"WAVE":
        raise reader.error("a RIFF file that is no wav file", expected="WAVE")
    form = None
    while True:
        name, size = struct.unpack("<4sI", _header(reader, "data"))
        if name == b"data":
            break
        content = reader.take(size + size % 2) if name == b"fmt " else b""
        if name == b"fmt ":
            form = _format(reader, content)
        else:
            reader.skip(size + size % 2)
    if form is None:
        raise reader.error("samples before the header says what they are", expected="a fmt chunk")
    data = _to_the_end(reader) if size in UNKNOWN_SIZES else _samples(reader, size)
    if alone and size not in UNKNOWN_SIZES:
        _check_rest(reader, size)
    if len(data) % form.block:
        if size not in UNKNOWN_SIZES:
            raise reader.error(f"{len(data)} bytes of samples", expected=f"blocks of {form.block}")
        data = data[: len(data) - len(data) % form.block]
    return Wave(form.decode(data), float(form.rate))


def _header(reader: ByteReader, expected: str) -> bytes:
    data = reader.some(8)
    if len(data) < 8:
        raise reader.error("the file ends", expected=f"a chunk '{expected}' with the samples")
    return data


def _format(reader: ByteReader, content: bytes) -> _Format:
    if len(content) < 16:
        raise reader.error(f"a fmt chunk of {len(content)} bytes", expected="at least 16")
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == EXTENSIBLE and len(content) >= 26:
        (tag,) = struct.unpack("<H", content[24:26])
    form = _Format(tag, channels, rate, bits)
    if (tag, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}:
        raise reader.error(
            f"samples of wav format {tag} with {bits} bits",
            expected="PCM (format 1) of 8 to 32 bits or floats (format 3)",
            hint="convert it, such as with sox IN.wav -b 16 -e signed-integer OUT.wav",
        )
    if channels == 0 or rate == 0 or block != form.block:
        raise reader.error(
            f"{channels} channels at {rate} Hz in blocks of {block} bytes",
            expected=f"channels, a rate, and blocks of {form.block} bytes",
        )
    return form


def _samples(reader: ByteReader, size: int) -> bytes:
    parts, missing = [], size
    while missing > 0 and (part := reader.some(min(missing, PIECE))):
        parts.append(part)
        missing -= len(part)
    if missing:
        raise reader.error(
            f"the header says {size} bytes of samples, the file has {size - missing}",
            hint="the recording was cut short: get it anew, or let sox repair its header",
        )
    return b"".join(parts)


def _to_the_end(reader: ByteReader) -> bytes:
    return b"".join(iter(lambda: reader.some(PIECE), b""))


def _check_rest(reader: ByteReader, size: int) -> None:
    """What follows the samples in a file: other chunks, or samples that the header forgot."""
    rest = _to_the_end(reader)
    place = size % 2 if rest[:1] == b"\0" else 0
    while len(rest) - place >= 8:
        name, length = struct.unpack("<4sI", rest[place : place + 8])
        if not all(32 <= byte < 127 for byte in name) or place + 8 + length > len(rest):
            break
        place += 8 + length + length % 2
    if len(rest) > place:
        raise reader.error(
            f"{len(rest) - place} bytes after the samples; the header says {size} bytes of samples",
            hint="the header is wrong: let sox repair it (sox --ignore-length IN.wav OUT.wav)",
        )


def _read_other(reader: ByteReader, start: bytes) -> Wave:
    """Any format that soundfile knows."""
    data = start + _to_the_end(reader)
    try:
        soundfile = _soundfile()
    except NnetError as error:
        raise reader.error(f"found {start!r}: {error}", expected="a wav file") from None
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise reader.error(f"no sound: {error}", expected=FORMATS) from None
    return Wave(np.ascontiguousarray(samples.T) * np.float32(FULL_SCALE), float(rate))


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise NnetError(
            f"formats other than wav need the package soundfile ({error}): pip install nnet[speech]"
        ) from None
    return soundfile


def write_wave(stream: BinaryIO, wave: Wave, binary: bool = True) -> None:
    """Writes a wav file of 16-bit samples; values beyond their range are clipped.

    Raises:
        NnetError: text was asked for.
    """
    if not binary:
        raise NnetError("waves have no text form; expected: ark:... without ,t")
    channels = wave.channels
    limits = (-FULL_SCALE, FULL_SCALE - 1)
    data = np.clip(np.rint(wave.samples.T), *limits).astype("<i2").tobytes()
    rate = round(wave.sample_frequency)
    form = struct.pack("<IHHIIHH", 16, PCM, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data)) + data
    stream.write(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
