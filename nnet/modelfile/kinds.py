"""What a file is, by its first bytes: for the errors of every command that is given another kind.

Only what begins like no file that is wanted is named here; a damaged file of the right kind keeps
the error of its reader, with the place of the damage.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Args:
        name: what it is.
        use: which command takes it, or what to do with it.
        holds: whether data, the file's beginning, is of this kind.
    """

    name: str
    use: str
    holds: Callable[[bytes], bool]


BEGINNING = 1 << 16
"""Bytes that are looked at: a transition model may stand in front of what says the kind."""


def _begins(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(marks)


def _token(*tokens: bytes) -> Callable[[bytes], bool]:
    """Whether a Kaldi file, binary or text, begins with one of some tokens."""
    return lambda data: data.removeprefix(b"\0B").lstrip().startswith(tokens)


def _after_transitions(*tokens: bytes) -> Callable[[bytes], bool]:
    """Whether one of some tokens follows a transition model."""

    def holds(data: bytes) -> bool:
        _, end, rest = data.partition(b"</TransitionModel>")
        return bool(end) and rest.lstrip().startswith(tokens)

    return holds


def _is_wave(data: bytes) -> bool:
    return data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE"


def _is_safetensors(data: bytes) -> bool:
    return data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < 1 << 32


def _is_pytorch(data: bytes) -> bool:
    is_archive = data.startswith(b"PK\3\4") and b"/data.pkl" in data[:200]
    return is_archive or data.startswith((b"\x80\2\x8a\nl\xfc\x9cF", b"PK\3\4\0\0\x08\x08\0\0"))


def _is_onnx(data: bytes) -> bool:
    """Field 1 (the version), then field 2 (the producer) of a ModelProto."""
    return bool(re.match(rb"\x08[\x01-\x20](\x12|:)", data))


KINDS = (
    FileKind("a gzip file", "unpack it first: gunzip -c FILE > NEW", _begins(b"\x1f\x8b")),
    FileKind("a wave file (sound)", "make features of it first", _is_wave),
    FileKind("a sound file", "make features of it first", _begins(b"fLaC", b"OggS", b"ID3")),
    FileKind(
        "an FST of OpenFst, such as den.fst",
        "nnet train and nnet compute-prob take it as --den-fst",
        _begins(b"\xd6\xfd\xb2\x7e"),
    ),
    FileKind(
        "a checkpoint of nnet train or another safetensors file",
        "nnet train --resume goes on from it; the trained model is final.raw or final.mdl",
        _is_safetensors,
    ),
    FileKind("a file of PyTorch", "it is no model of Kaldi; train here from a config", _is_pytorch),
    FileKind("an ONNX file", "ONNX is written by nnet convert, not read", _is_onnx),
    FileKind(
        "a GMM acoustic model (<DIMENSION>, <DiagGMM>), not a neural network",
        "nnet am-init and --ali-model take its transition model",
        _after_transitions(b"<DIMENSION>", b"<DIAGGMM>", b"<DiagGMM>"),
    ),
    FileKind(
        "an acoustic model of nnet2",
        "make one of nnet3: nnet convert FILE NEW.mdl",
        _after_transitions(b"<Nnet>"),
    ),
    FileKind(
        "a transition model alone",
        "nnet am-init puts it in front of a network",
        lambda data: data.rstrip().endswith(b"</TransitionModel>") and _token(b"<Tr")(data),
    ),
    FileKind("a network of nnet3 (.raw)", "it is the model of nnet info, copy, compute, train",
             _token(b"<Nnet3>")),
    FileKind("an acoustic model of nnet3 (.mdl)", "it is the model of nnet info, copy, compute",
             _after_transitions(b"<Nnet3>")),
    FileKind(
        "a network of nnet1 or nnet2",
        "make one of nnet3: nnet convert FILE NEW.raw",
        _token(b"<Nnet>", b"<NnetProto>", b"<AffineTransform>", b"<Splice>", b"<AddShift>"),
    ),
    FileKind("a tree", "nnet chain-prepare takes it", _token(b"ContextDependency")),
    FileKind("a topology", "nnet chain-prepare takes it", _token(b"<Topology>")),
    FileKind(
        "a matrix or vector of Kaldi",
        "configs name such files, as matrix=FILE",
        _begins(b"\0BFM ", b"\0BDM ", b"\0BFV ", b"\0BDV ", b"\0BCM"),
    ),
    FileKind(
        "a table of Kaldi (an archive)",
        "give it as 'ark:FILE' where a table is wanted",
        lambda data: bool(re.match(rb"[^\s\0<>=]+ \0B", data)),
    ),
    FileKind(
        "a script file of a table",
        "give it as 'scp:FILE' where a table is wanted",
        lambda data: bool(re.match(rb"[^\s\0<>=]+ [^\s\0<>=]+:\d+\r?\n", data)),
    ),
    FileKind(
        "an xconfig or config, the text of a network",
        "nnet init makes a model of it",
        lambda data: bool(re.match(rb"(#.*\n|\s)*[a-z0-9-]+ ([\w.-]+=\S+ )*(name|dim)=", data)),
    ),
)  # fmt: skip


def kind_of(data: bytes) -> FileKind | None:
    """The kind of a file from its beginning; None if it begins like none that is known."""
    beginning = data[:BEGINNING]
    return next((kind for kind in KINDS if kind.holds(beginning)), None)


def named_instead(data: bytes | mmap) -> str | None:
    """For an error: `this is KIND; USE`, or None."""
    kind = kind_of(data[:BEGINNING])
    return f"this is {kind.name}; {kind.use}" if kind else None
