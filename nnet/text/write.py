"""Syntax back to text."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable

from nnet.text import syntax
from nnet.text.source import TextError

# Values that need no quotes: single blanks between words, nothing that has a meaning in a line.
_PLAIN = re.compile(r"""[^\s"'#=]+(?: [^\s"'#=]+)*""")


def write_file(file: syntax.File, *, empty: str = '""') -> str:
    """The text of a config or xconfig file, one line each, values quoted where they must be.

    Args:
        file: what to write.
        empty: how an empty value is written; an xconfig may also have nothing there.

    Raises:
        TextError: if a value cannot be written: it has a line break, '#', or both kinds of quote.
    """
    return "".join(write_line(line, empty=empty) + "\n" for line in file.lines)


def write_line(line: syntax.Line, *, empty: str = '""') -> str:
    """The text of one line, without a line break; see `write_file`."""
    words = [line.word, *(f"{s.key}={_value(s) if s.value else empty}" for s in line.settings)]
    return " ".join(words) + (f"  # {line.comment}" if line.comment else "")


def _value(setting: syntax.Setting) -> str:
    if _PLAIN.fullmatch(setting.value):
        return setting.value
    if not re.search("[\n#]", setting.value):
        for quote in ('"', "'"):
            if quote not in setting.value:
                return f"{quote}{setting.value}{quote}"
    raise TextError(
        setting.value_span,
        f"the value of '{setting.key}' cannot be written: {setting.value!r}",
        expected="a value in one line, without '#', with at most one kind of quote",
    )


def nnet3_number(value: float) -> str:
    """A number as nnet3 prints it: rounded to a 32-bit float, six significant digits."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return f"{rounded:g}"


def write_descriptor(
    descriptor: syntax.Descriptor, number: Callable[[float], str] = nnet3_number
) -> str:
    """A descriptor as nnet3 prints it, such as `Append(Offset(input, -2), Scale(0.4, ivector))`.

    Args:
        descriptor: what to write.
        number: how to write the factors of Scale and the values of Const.
    """
    match descriptor:
        case syntax.NodeName(name):
            return name
        case syntax.Append(parts) | syntax.Sum(parts) | syntax.Switch(parts):
            arguments: Iterable[str] = (write_descriptor(part, number) for part in parts)
        case syntax.Failover(first, second):
            arguments = (write_descriptor(first, number), write_descriptor(second, number))
        case syntax.IfDefined(source):
            arguments = (write_descriptor(source, number),)
        case syntax.Offset(source, t, x):
            offsets = (str(t), str(x)) if x else (str(t),)
            arguments = (write_descriptor(source, number), *offsets)
        case syntax.Round(source, modulus):
            arguments = (write_descriptor(source, number), str(modulus))
        case syntax.ReplaceIndex(source, variable, value):
            arguments = (write_descriptor(source, number), variable, str(value))
        case syntax.Scale(factor, source):
            arguments = (number(factor), write_descriptor(source, number))
        case syntax.Const(constant, dim):
            arguments = (number(constant), str(dim))
        case syntax.LayerBack(back, output):
            return f"[-{back}]" + (f".{output}" if output else "")
        case syntax.BareOffset(t):
            return str(t)
    return f"{type(descriptor).__name__}({', '.join(arguments)})"
