"""Walking over descriptors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from nnet.text import syntax
from nnet.text.syntax import Descriptor

Leaf = syntax.NodeName | syntax.LayerBack | syntax.BareOffset | syntax.Const


def parts(descriptor: Descriptor) -> tuple[Descriptor, ...]:
    """The descriptors directly inside a descriptor, in order; none for a leaf."""
    match descriptor:
        case syntax.Append(inner) | syntax.Sum(inner) | syntax.Switch(inner):
            return inner
        case syntax.Failover(first, second):
            return (first, second)
        case (
            syntax.IfDefined(source)
            | syntax.Offset(source)
            | syntax.Scale(source=source)
            | syntax.Round(source)
            | syntax.ReplaceIndex(source)
        ):
            return (source,)
    return ()


def with_parts(descriptor: Descriptor, inner: tuple[Descriptor, ...]) -> Descriptor:
    """The descriptor with other descriptors inside, as many as `parts` gives."""
    match descriptor:
        case syntax.Append() | syntax.Sum():
            return replace(descriptor, parts=inner)
        case syntax.Switch():
            return replace(descriptor, sources=inner)
        case syntax.Failover():
            return replace(descriptor, first=inner[0], second=inner[1])
        case (
            syntax.IfDefined()
            | syntax.Offset()
            | syntax.Scale()
            | syntax.Round()
            | syntax.ReplaceIndex()
        ):
            return replace(descriptor, source=inner[0])
    return descriptor


def leaves(descriptor: Descriptor) -> Iterator[syntax.NodeName]:
    """The node names in a descriptor, in order, repeats included."""
    if isinstance(descriptor, syntax.NodeName):
        yield descriptor
    for part in parts(descriptor):
        yield from leaves(part)


def map_leaves(descriptor: Descriptor, change: Callable[[Leaf], Descriptor]) -> Descriptor:
    """The descriptor with each name, short form and constant replaced by what `change` gives."""
    match descriptor:
        case syntax.NodeName() | syntax.LayerBack() | syntax.BareOffset() | syntax.Const():
            return change(descriptor)
    return with_parts(descriptor, tuple(map_leaves(part, change) for part in parts(descriptor)))
