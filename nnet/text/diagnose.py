"""Syntax errors in the user's words: from what Lark reports to a `TextError`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nnet.text.source import Span, TextError

if TYPE_CHECKING:
    from lark import UnexpectedInput

# How each word of the descriptor grammar is used.
USAGE = {
    "Append": "Append(DESCRIPTOR, DESCRIPTOR, ...)",
    "Sum": "Sum(DESCRIPTOR, DESCRIPTOR, ...)",
    "Switch": "Switch(DESCRIPTOR, DESCRIPTOR, ...)",
    "Failover": "Failover(DESCRIPTOR, DESCRIPTOR)",
    "IfDefined": "IfDefined(DESCRIPTOR)",
    "Offset": "Offset(DESCRIPTOR, T-OFFSET) or Offset(DESCRIPTOR, T-OFFSET, X-OFFSET)",
    "Round": "Round(DESCRIPTOR, T-MODULUS)",
    "ReplaceIndex": "ReplaceIndex(DESCRIPTOR, t, VALUE) or ReplaceIndex(DESCRIPTOR, x, VALUE)",
    "Scale": "Scale(FACTOR, DESCRIPTOR)",
    "Const": "Const(VALUE, DIM)",
}

# What a terminal of the descriptor grammar is called, in the order of mention.
_TERMINALS = {
    "NAME": "a descriptor",
    "NUMBER": "a number",
    "INTEGER": "an integer",
    "VARIABLE": "t or x",
    "_OPEN": "'('",
    "_COMMA": "','",
    "CLOSE": "')'",
    "SQUARE_CLOSE": "']'",
    "$END": "the end of the descriptor",
}
# Not mentioned where the first is possible: the rest are ways to begin the same thing.
_IMPLIED = {"NAME": {"INTEGER"}, "NUMBER": {"INTEGER"}}

MAX_NESTING = 100

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_WORD = re.compile(r"[^\s=#]+")
_TOKEN = re.compile(r"[^\s(),@\[\]]+")
_ENDS_WORD = re.compile(r"[\s(),@\[\]]")
_SHORT_FORM = re.compile(r"[@\[]|[-+]?[0-9]+$")


def check_nesting(span: Span) -> None:
    """Raises a TextError where parentheses are nested more than 100 deep."""
    text = span.source.text
    if text.count("(", span.start, span.end) <= MAX_NESTING:
        return
    depth = 0
    for position in range(span.start, span.end):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth > MAX_NESTING:
            raise TextError(
                Span(span.source, position, position + 1),
                f"parentheses nested more than {MAX_NESTING} deep",
                hint="name the inner part by giving it a node of its own",
            )


def syntax_error(error: UnexpectedInput, span: Span, start: str, language: str) -> TextError:
    """The TextError for what Lark found while reading `span` as `start` of a language."""
    at_end = getattr(getattr(error, "token", None), "type", None) == "$END"
    position = error.pos_in_stream
    if at_end or position is None:
        position = span.end
    if start == "descriptor":
        return _descriptor_error(span, position, _allowed(error), short_forms=language == "xconfig")
    return _line_error(span, position, words=start == "file")


def _allowed(error: UnexpectedInput) -> set[str]:
    """The terminals that could stand at the error, by their names in descriptor.lark."""
    parser = getattr(error, "interactive_parser", None)
    if parser is not None:
        names = parser.choices()
    else:
        names = getattr(error, "allowed", None) or getattr(error, "expected", ())
    return {_unprefixed(name) for name in names} & set(_TERMINALS)


def _unprefixed(terminal: str) -> str:
    """Lark calls a terminal imported from another grammar `grammar__NAME` or `_grammar__NAME`."""
    grammar, separator, name = terminal.rpartition("__")
    return ("_" if grammar.startswith("_") else "") + name if separator else terminal


# Descriptors.


def _descriptor_error(
    span: Span, position: int, terminals: set[str], *, short_forms: bool
) -> TextError:
    text = span.source.text
    opened = _open_parentheses(text, span.start, position)
    word = _word_before(text, span.start, opened[-1]) if opened else ""
    expected = _expected(terminals, inside=bool(opened))
    usage = f"usage: {USAGE[word]}" if word in USAGE else None
    if position >= span.end:
        return _early_end(span, opened, expected, usage)
    found = _found(text, position, span.end)
    place = Span(span.source, position, position + len(found))
    if found == ")" and not opened:
        return TextError(place, "this ')' closes nothing", expected=expected)
    name = _word_before(text, span.start, position)
    if found == "(" and name and name not in USAGE:
        return _unknown_word(span, text.rindex(name, span.start, position), name)
    hint = usage
    if found == ")" and "_COMMA" in terminals and "CLOSE" not in terminals:
        message = f"too few arguments for {word}"
    elif found == "," and "CLOSE" in terminals and "_COMMA" not in terminals:
        message = f"too many arguments for {word}"
    else:
        message = f"found {_shown(found)}"
        if not short_forms and _SHORT_FORM.match(found):
            hint = "short forms such as [-1], -3 and layer@-3 are for xconfig files"
    return TextError(place, message, expected=expected, hint=hint)


def _unknown_word(span: Span, start: int, name: str) -> TextError:
    return TextError(
        Span(span.source, start, start + len(name)),
        f"unknown descriptor word '{name}'",
        expected="one of " + ", ".join(USAGE),
        name=name,
        names=USAGE,
    )


def _early_end(span: Span, opened: list[int], expected: str, usage: str | None) -> TextError:
    if opened:
        place = Span(span.source, opened[-1], opened[-1] + 1)
        return TextError(place, "this '(' is never closed", expected=expected, hint=usage)
    end = Span(span.source, span.end, span.end)
    if not span.text.strip():
        return TextError(end, "an empty descriptor", expected="a descriptor")
    return TextError(end, "the descriptor ends too early", expected=expected)


def _open_parentheses(text: str, start: int, end: int) -> list[int]:
    opened: list[int] = []
    for position in range(start, end):
        if text[position] == "(":
            opened.append(position)
        elif text[position] == ")" and opened:
            opened.pop()
    return opened


def _word_before(text: str, start: int, position: int) -> str:
    before = text[start:position].rstrip()
    end = begin = len(before)
    while begin and not _ENDS_WORD.match(before[begin - 1]):
        begin -= 1
    return before[begin:end]


def _expected(terminals: set[str], *, inside: bool) -> str:
    """The allowed terminals in words; `inside` parentheses the descriptor cannot end."""
    allowed = terminals - ({"$END"} if inside else {"_COMMA", "CLOSE"})
    for terminal, implied in _IMPLIED.items():
        if terminal in allowed:
            allowed -= implied
    words = [words for name, words in _TERMINALS.items() if name in allowed]
    return " or ".join(words) or _TERMINALS["$END"]


def _found(text: str, position: int, end: int) -> str:
    match = _TOKEN.match(text, position, end)
    return match.group() if match else text[position]


def _shown(found: str) -> str:
    return f"'{found}'" if found.isprintable() else f"the character U+{ord(found[0]):04X}"


# Lines.


def _line_error(span: Span, position: int, *, words: bool) -> TextError:
    """An error between `key=value` pairs; `words`: whether a line begins with a word."""
    source, text = span.source, span.source.text
    line_start = max(span.start, text.rfind("\n", 0, position) + 1)
    line_end = text.find("\n", position, span.end)
    line_end = span.end if line_end < 0 else line_end
    before = text[line_start:position]
    after_key = before.rstrip().endswith("=")
    match = _WORD.match(text, position, line_end)
    found = match.group() if match else text[position : min(position + 1, line_end)]
    place = Span(source, position, position + len(found))
    if after_key and found[:1] in ("'", '"'):
        return _unclosed_quote(Span(source, position, line_end))
    if after_key:
        key = _WORD.findall(before)[-1]
        value = Span(source, line_start + len(before.rstrip()), line_start + len(before.rstrip()))
        return TextError(
            value,
            f"'{key}' has no value",
            expected=f"{key}=VALUE",
            hint=f'an empty value is written {key}=""',
        )
    if words and not before.strip():
        return _bad_word(place, found, text[place.end : place.end + 1] == "=")
    if found == "=":
        return _stray_equals(place, before)
    rest = text[place.end : line_end]
    if rest.startswith("="):
        return TextError(
            place,
            f"'{found}' is not a key",
            expected="letters, digits, '_', '-' and '.', starting with a letter or '_'",
        )
    if rest.lstrip().startswith("="):
        return _stray_equals(place, before + found + " ")
    return TextError(place, f"no '=' after {_shown(found)}", expected="key=value")


def _unclosed_quote(quoted: Span) -> TextError:
    quote = quoted.text[0]
    hint = "a '#' begins a comment, inside quotes too" if "#" in quoted.text else None
    return TextError(
        Span(quoted.source, quoted.start, quoted.start + len(quoted.text.rstrip())),
        "the quote is never closed",
        expected=f"a closing {quote} in the same line",
        hint=hint,
    )


def _bad_word(place: Span, found: str, is_key: bool) -> TextError:
    if is_key:
        return TextError(
            place,
            f"the line begins with the setting '{found}='",
            expected="a word first, such as component-node or relu-layer",
        )
    return TextError(
        place,
        f"found {_shown(found)}",
        expected="a line such as: component-node name=tdnn1 component=tdnn1 input=input",
    )


def _stray_equals(place: Span, before: str) -> TextError:
    if before[-1:].isspace():
        return TextError(
            place, "a blank in front of '='", expected="key=value without blanks around '='"
        )
    return TextError(
        place, "a second '=' in one value", hint='put a value that contains "=" in quotes'
    )
