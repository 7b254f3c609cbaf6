"""What the grammars produce: one frozen dataclass a rule, each with its place in the text.

Spans do not take part in comparison, so that `parse(write(x)) == x`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nnet.text.source import Source, Span


@dataclass(frozen=True, kw_only=True)
class Spanned:
    """Something that stands at a place in a text; None if a program made it."""

    span: Span | None = field(default=None, compare=False, repr=False)


# Descriptors: how a node's input is put together from other nodes. Section "Descriptors" of
# Kaldi's nnet3 documentation; an index is (n, t, x).


@dataclass(frozen=True)
class NodeName(Spanned):
    """The rows of one node."""

    name: str


@dataclass(frozen=True)
class Append(Spanned):
    """Columns of the parts, side by side."""

    parts: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Sum(Spanned):
    parts: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Failover(Spanned):
    """`first` where it is defined, else `second`."""

    first: Descriptor
    second: Descriptor


@dataclass(frozen=True)
class IfDefined(Spanned):
    """`source` where it is defined, else zeros."""

    source: Descriptor


@dataclass(frozen=True)
class Offset(Spanned):
    """Row (n, t, x) is the source's row (n, t + self.t, x + self.x)."""

    source: Descriptor
    t: int
    x: int = 0


@dataclass(frozen=True)
class Switch(Spanned):
    """Row t is row t of source number `t mod len(sources)`."""

    sources: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Scale(Spanned):
    factor: float
    source: Descriptor


@dataclass(frozen=True)
class Const(Spanned):
    """`dim` columns that all hold `value`, at every index."""

    value: float
    dim: int


@dataclass(frozen=True)
class Round(Spanned):
    """Row t is the source's row t rounded down to a multiple of `modulus`."""

    source: Descriptor
    modulus: int


@dataclass(frozen=True)
class ReplaceIndex(Spanned):
    """Row (n, t, x) is the source's row with `variable` ('t' or 'x') set to `value`."""

    source: Descriptor
    variable: str
    value: int


@dataclass(frozen=True)
class LayerBack(Spanned):
    """xconfig only: `[-2]`, the layer two lines up; `[-2].c` is its auxiliary output `c`."""

    back: int
    output: str = ""


@dataclass(frozen=True)
class BareOffset(Spanned):
    """xconfig only: a bare integer such as the -3 of `Append(-3,0,3)`: `Offset([-1], -3)`."""

    t: int


Descriptor = (
    NodeName
    | Append
    | Sum
    | Failover
    | IfDefined
    | Offset
    | Switch
    | Scale
    | Const
    | Round
    | ReplaceIndex
    | LayerBack
    | BareOffset
)


# Lines.


@dataclass(frozen=True)
class Setting(Spanned):
    """`key=value`; the value is unquoted text, checked and converted by whoever knows the key.

    `descriptor` is the value's meaning where a program made both (an expanded xconfig), so that
    its spans point into the user's file; see `nnet.text.parse.descriptor_of`.
    """

    key: str
    value: str
    descriptor: Descriptor | None = field(default=None, compare=False, repr=False, kw_only=True)
    key_span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)
    value_span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Line(Spanned):
    """A word and its settings, in order: a line of a config file or of an xconfig.

    In a config file the word is `component`, `input-node`, ...; in an xconfig it is a layer type.
    """

    word: str
    settings: tuple[Setting, ...]
    comment: str = field(default="", compare=False)
    word_span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)

    def get(self, key: str) -> Setting | None:
        return next((s for s in self.settings if s.key == key), None)


@dataclass(frozen=True)
class File:
    """A config file or an xconfig: its lines, comments and blank lines left out."""

    source: Source = field(compare=False)
    lines: tuple[Line, ...]
