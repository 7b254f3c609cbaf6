"""nnet3's normal form of descriptors, in which model files and info texts show them.

In it Append is only outermost, Sum has two terms, and what moves or scales rows stands inside
Sum, Failover and IfDefined (GeneralDescriptor::Normalize in Kaldi's nnet3/nnet-descriptor.cc).
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from nnet.text import syntax
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts, with_parts
from nnet.text.write import write_descriptor

_SUMS = (syntax.Sum, syntax.Failover, syntax.IfDefined)
_MOVES = (syntax.Offset, syntax.Round, syntax.ReplaceIndex)


class _Inexpressible(Exception):
    """A combination for which the normal form has no place."""


def canonical(descriptor: Descriptor) -> Descriptor:
    """The normal form of a descriptor; the descriptor itself where it has none."""
    try:
        terms = [_normal(term) for term in _append_terms(descriptor)]
    except _Inexpressible:
        return descriptor
    return terms[0] if len(terms) == 1 else syntax.Append(tuple(terms))


def canonical_text(descriptor: Descriptor) -> str:
    """The normal form as text. Numbers have nnet3's six digits, or more if needed to keep them."""
    return write_descriptor(canonical(descriptor), _number)


def _number(value: float) -> str:
    with np.errstate(over="ignore"):
        single = np.float32(value)
        short = f"{single:.6g}"
        return short if np.float32(short) == single else f"{single:.9g}"


def _append_terms(descriptor: Descriptor) -> list[Descriptor]:
    """Descriptors without Append whose columns side by side are the descriptor's."""
    if isinstance(descriptor, syntax.Append):
        return [term for part in descriptor.parts for term in _append_terms(part)]
    inner = [_append_terms(part) for part in parts(descriptor)]
    if not inner:
        return [descriptor]
    if len({len(terms) for terms in inner}) != 1:
        raise _Inexpressible
    return [with_parts(descriptor, together) for together in zip(*inner, strict=True)]


def _normal(descriptor: Descriptor) -> Descriptor:
    inner = tuple(_normal(part) for part in parts(descriptor))
    match descriptor:
        case syntax.Sum():
            return reduce(lambda after, term: syntax.Sum((term, after)), reversed(inner))
        case syntax.Scale(factor):
            return _scaled(factor, inner[0])
        case syntax.Switch():
            if len(inner) > 1 and any(isinstance(p, (*_SUMS, syntax.Const)) for p in inner):
                raise _Inexpressible
            return _moved(descriptor, inner) if len(inner) == 1 else syntax.Switch(inner)
        case syntax.Offset() | syntax.Round() | syntax.ReplaceIndex():
            return _moved(descriptor, inner)
    return with_parts(descriptor, inner)


def _moved(move: Descriptor, inner: tuple[Descriptor, ...]) -> Descriptor:
    """`move` applied to a normal form."""
    source = inner[0]
    if isinstance(source, _SUMS):
        return with_parts(source, tuple(_moved(move, (part,)) for part in parts(source)))
    if isinstance(source, syntax.Const):
        return source
    if isinstance(move, syntax.Offset):
        if isinstance(source, syntax.Offset):
            together = replace(move, t=move.t + source.t, x=move.x + source.x)
            return _moved(together, (source.source,))
        if move.t == 0 and move.x == 0:
            return source
    return with_parts(move, inner)


def _scaled(factor: float, source: Descriptor) -> Descriptor:
    """`factor` times a normal form."""
    match source:
        case syntax.Scale(other):
            with np.errstate(over="ignore"):
                return _scaled(float(np.float32(factor) * np.float32(other)), source.source)
        case syntax.Const(value):
            with np.errstate(over="ignore"):
                return replace(source, value=float(np.float32(factor) * np.float32(value)))
        case syntax.NodeName():
            return source if factor == 1.0 else syntax.Scale(factor, source)
    return with_parts(source, tuple(_scaled(factor, part) for part in parts(source)))
