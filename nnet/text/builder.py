"""What Lark calls for each grammar rule: it makes the dataclasses of `nnet.text.syntax`."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

from nnet.text import syntax
from nnet.text.source import Source, Span, TextError

if TYPE_CHECKING:
    from lark import Token


class Builder(threading.local):
    """Makes a dataclass of each rule that the parser has read: method `append` for rule `append`.

    `source` is the text being parsed; each thread has its own.
    """

    source: Source

    def __getattr__(self, name: str) -> Any:
        """Lark calls a rule imported from another grammar `grammar__rule`."""
        _, imported, rule = name.rpartition("__")
        if not imported or not rule:
            raise AttributeError(name)
        return getattr(self, rule)

    def _span(self, first: Token, last: Token) -> Span:
        return Span(self.source, first.start_pos or 0, last.end_pos or 0)

    # Lines.

    def file(self, children: list[Any]) -> tuple[syntax.Line, ...]:
        return tuple(child for child in children if isinstance(child, syntax.Line))

    def settings(self, children: list[Any]) -> tuple[syntax.Setting, ...]:
        return tuple(children)

    def line(self, children: list[Any]) -> syntax.Line:
        word, *settings, comment = children
        word_span = self._span(word, word)
        end = settings[-1].span.end if settings else word_span.end
        return syntax.Line(
            str(word),
            tuple(settings),
            comment=comment[1:].strip() if comment else "",
            span=Span(self.source, word_span.start, end),
            word_span=word_span,
        )

    def setting(self, children: list[Any]) -> syntax.Setting:
        key, value = children
        key_span = Span(self.source, key.start_pos, key.end_pos - 1)
        if value is None:
            value, value_span = "", Span(self.source, key.end_pos, key.end_pos)
            end = key.end_pos
        else:
            quotes = 1 if value.type.endswith("QUOTED") else 0
            end = value.end_pos
            value_span = Span(self.source, value.start_pos + quotes, end - quotes)
            value = value[quotes : len(value) - quotes]
        return syntax.Setting(
            str(key[:-1]),
            str(value),
            span=Span(self.source, key.start_pos, end),
            key_span=key_span,
            value_span=value_span,
        )

    # Descriptors.

    def node_name(self, children: list[Any]) -> syntax.NodeName:
        (name,) = children
        return syntax.NodeName(str(name), span=self._span(name, name))

    def append(self, children: list[Any]) -> syntax.Append:
        word, *parts, close = children
        return syntax.Append(tuple(parts), span=self._span(word, close))

    def sum(self, children: list[Any]) -> syntax.Sum:
        word, *parts, close = children
        return syntax.Sum(tuple(parts), span=self._span(word, close))

    def switch(self, children: list[Any]) -> syntax.Switch:
        word, *sources, close = children
        return syntax.Switch(tuple(sources), span=self._span(word, close))

    def failover(self, children: list[Any]) -> syntax.Failover:
        word, first, second, close = children
        return syntax.Failover(first, second, span=self._span(word, close))

    def if_defined(self, children: list[Any]) -> syntax.IfDefined:
        word, source, close = children
        return syntax.IfDefined(source, span=self._span(word, close))

    def offset(self, children: list[Any]) -> syntax.Offset:
        word, source, t, x, close = children
        x_offset = self._integer(x) if x is not None else 0
        return syntax.Offset(source, self._integer(t), x_offset, span=self._span(word, close))

    def round(self, children: list[Any]) -> syntax.Round:
        word, source, modulus, close = children
        return syntax.Round(source, self._positive(modulus), span=self._span(word, close))

    def replace_index(self, children: list[Any]) -> syntax.ReplaceIndex:
        word, source, variable, value, close = children
        return syntax.ReplaceIndex(
            source, str(variable), self._integer(value), span=self._span(word, close)
        )

    def scale(self, children: list[Any]) -> syntax.Scale:
        word, factor, source, close = children
        return syntax.Scale(self._real(factor), source, span=self._span(word, close))

    def const(self, children: list[Any]) -> syntax.Const:
        word, value, dim, close = children
        return syntax.Const(self._real(value), self._positive(dim), span=self._span(word, close))

    # xconfig's short forms.

    def layer_back(self, children: list[Any]) -> syntax.LayerBack:
        square, back, close, auxiliary = children
        count = -self._integer(back)
        if count <= 0:
            raise TextError(
                self._span(back, back),
                f"[{back}] does not point back",
                expected="[-1] for the line above, [-2] for the line above that, ...",
            )
        output = str(auxiliary[1:]) if auxiliary is not None else ""
        last = auxiliary if auxiliary is not None else close
        return syntax.LayerBack(count, output, span=self._span(square, last))

    def bare_offset(self, children: list[Any]) -> syntax.BareOffset:
        (t,) = children
        return syntax.BareOffset(self._integer(t), span=self._span(t, t))

    def name_at(self, children: list[Any]) -> syntax.Descriptor:
        name, t = children
        span = self._span(name, t)
        return _at(self.node_name([name]), self._integer(t), span)

    def layer_at(self, children: list[Any]) -> syntax.Descriptor:
        layer, t = children
        span = Span(self.source, layer.span.start, t.end_pos)
        return _at(layer, self._integer(t), span)

    # Numbers.

    def _integer(self, token: Token) -> int:
        value = int(token) if len(token) < 20 else 2**31
        if not -(2**31) <= value < 2**31:
            raise TextError(
                self._span(token, token),
                f"'{token}' is too large",
                expected="an integer of at most 32 bits",
            )
        return value

    def _positive(self, token: Token) -> int:
        value = self._integer(token)
        if value <= 0:
            raise TextError(
                self._span(token, token), f"found '{token}'", expected="a positive integer"
            )
        return value

    def _real(self, token: Token) -> float:
        value = float(token)
        try:
            struct.pack("<f", value)
        except OverflowError:
            raise TextError(
                self._span(token, token),
                f"'{token}' is too large",
                expected="a number that fits a 32-bit float",
            ) from None
        return value


def _at(source: syntax.Descriptor, t: int, span: Span) -> syntax.Descriptor:
    return syntax.Offset(source, t, span=span) if t else source
