"""What a user sees after a mistake in the text: place, line, caret, expectation, help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import nnet.text.parse
from nnet.text.diagnose import USAGE
from nnet.text.parse import parse_config, parse_descriptor, parse_xconfig
from nnet.text.source import TextError
from nnet.text.syntax import Descriptor, File


@dataclass(frozen=True)
class Mistake:
    """A text, and what must be said about it."""

    text: str
    line: int
    column: int
    caret: str
    message: str
    more: tuple[str, ...] = ()


def short(text: str) -> Descriptor:
    return parse_descriptor(text, short_forms=True)


DESCRIPTORS = {
    "nothing": Mistake("", 1, 1, "^", "an empty descriptor", ("expected: a descriptor",)),
    "unclosed parenthesis": Mistake(
        "Append(Offset(a, 1), Sum(a, b)",
        1,
        7,
        "^",
        "this '(' is never closed",
        ("expected: ',' or ')'", "usage: Append(DESCRIPTOR, DESCRIPTOR, ...)"),
    ),
    "unclosed inner parenthesis": Mistake(
        "Append(a, Offset(b, 2", 1, 17, "^", "this '(' is never closed", ("usage: Offset(",)
    ),
    "parenthesis that closes nothing": Mistake("Sum(a, b))", 1, 10, "^", "this ')' closes nothing"),
    "parentheses without a word": Mistake(
        "(a)", 1, 1, "^", "found '('", ("expected: a descriptor",)
    ),
    "no argument": Mistake("Append()", 1, 8, "^", "found ')'", ("expected: a descriptor",)),
    "comma at the end": Mistake("Sum(a,)", 1, 7, "^", "found ')'", ("expected: a descriptor",)),
    "no comma": Mistake("Sum(a b)", 1, 7, "^", "found 'b'", ("expected: ',' or ')'",)),
    "two descriptors": Mistake(
        "tdnn1 tdnn2", 1, 7, "^^^^^", "found 'tdnn2'", ("expected: the end of the descriptor",)
    ),
    "unknown word": Mistake(
        "Apend(a, b)",
        1,
        1,
        "^^^^^",
        "unknown descriptor word 'Apend'",
        ("expected: one of Append, Sum,", "did you mean 'Append'?"),
    ),
    "word in lower case": Mistake(
        "Sum(a, offset(b, 1))",
        1,
        8,
        "^^^^^^",
        "unknown descriptor word 'offset'",
        ("did you mean 'Offset'?",),
    ),
    "word without parentheses": Mistake(
        "Append", 1, 7, "^", "the descriptor ends too early", ("expected: '('",)
    ),
    "too few arguments": Mistake(
        "Offset(a)",
        1,
        9,
        "^",
        "too few arguments for Offset",
        ("expected: ','", "usage: Offset(DESCRIPTOR, T-OFFSET) or"),
    ),
    "too many arguments": Mistake(
        "IfDefined(a, b)",
        1,
        12,
        "^",
        "too many arguments for IfDefined",
        ("expected: ')'", "usage: IfDefined(DESCRIPTOR)"),
    ),
    "offset that is no integer": Mistake(
        "Offset(a, 1.5)", 1, 11, "^^^", "found '1.5'", ("expected: an integer",)
    ),
    "offset that is a name": Mistake(
        "Offset(a, b)", 1, 11, "^", "found 'b'", ("expected: an integer",)
    ),
    "offset of more than 32 bits": Mistake(
        "Offset(a, 3000000000)",
        1,
        11,
        "^^^^^^^^^^",
        "'3000000000' is too large",
        ("expected: an integer of at most 32 bits",),
    ),
    "scale that is no number": Mistake(
        "Scale(a, b)", 1, 7, "^", "found 'a'", ("expected: a number", "usage: Scale(FACTOR,")
    ),
    "scale that overflows": Mistake(
        "Scale(1e39, b)", 1, 7, "^^^^", "'1e39' is too large", ("fits a 32-bit float",)
    ),
    "dimension that is not positive": Mistake(
        "Const(1, 0)", 1, 10, "^", "found '0'", ("expected: a positive integer",)
    ),
    "modulus that is not positive": Mistake(
        "Round(a, -3)", 1, 10, "^^", "found '-3'", ("expected: a positive integer",)
    ),
    "index other than t and x": Mistake(
        "ReplaceIndex(a, n, 0)", 1, 17, "^", "found 'n'", ("expected: t or x",)
    ),
    "stray character": Mistake("Sum(a, b%c)", 1, 9, "^^", "found '%c'"),
    "invisible character": Mistake("a\0", 1, 2, "^", "found the character U+0000"),
    "short form in a config file": Mistake(
        "input@-3", 1, 6, "^", "found '@'", ("layer@-3 are for xconfig files",)
    ),
}

SHORT_FORMS = {
    "forward reference": Mistake(
        "Sum([1], a)", 1, 6, "^", "[1] does not point back", ("expected: [-1] for the line above",)
    ),
    "reference to the line itself": Mistake("[0]", 1, 2, "^", "[0] does not point back"),
    "unclosed bracket": Mistake(
        "[-1", 1, 4, "^", "the descriptor ends too early", ("expected: ']'",)
    ),
    "name in brackets": Mistake("[a]", 1, 2, "^", "found 'a'", ("expected: an integer",)),
    "offset that is no integer": Mistake(
        "a@-1.5", 1, 3, "^^^^", "found '-1.5'", ("expected: an integer",)
    ),
}

LINES = {
    "unclosed quote": Mistake(
        "a x=1\ncomponent name=a b='c d",
        2,
        20,
        "^^^^",
        "the quote is never closed",
        ("expected: a closing ' in the same line",),
    ),
    "comment in quotes": Mistake(
        'a b="c # d"',
        1,
        5,
        "^^^^^^^",
        "the quote is never closed",
        ("a '#' begins a comment, inside quotes too",),
    ),
    "no word": Mistake(
        "name=a dim=3",
        1,
        1,
        "^^^^",
        "the line begins with the setting 'name='",
        ("expected: a word first",),
    ),
    "stray character": Mistake("a x=1\n  %b", 2, 3, "^^", "found '%b'", ("expected: a line such",)),
    "no equals sign": Mistake(
        "input-node dim 40",
        1,
        12,
        "^^^",
        "no '=' after 'dim'",
        ("expected: key=value",),
    ),
    "blank in front of the equals sign": Mistake(
        "input-node name=a dim =40",
        1,
        23,
        "^",
        "a blank in front of '='",
        ("expected: key=value without blanks around '='",),
    ),
    "key with a strange character": Mistake(
        "a x=1 1y=2",
        1,
        7,
        "^^",
        "'1y' is not a key",
        ("expected: letters, digits, '_', '-' and '.'",),
    ),
}

CONFIG_ONLY = {
    "empty value": Mistake(
        "input-node name= dim=3",
        1,
        17,
        "^",
        "'name' has no value",
        ("expected: name=VALUE", 'an empty value is written name=""'),
    ),
}

XCONFIG_ONLY = {
    "key given twice": Mistake(
        "input dim=3 dim=4", 1, 13, "^^^", "'dim' is given twice", ("expected: one 'dim='",)
    ),
    "two equals signs": Mistake(
        "relu-layer a=b=c",
        1,
        15,
        "^",
        "a second '=' in one value",
        ('put a value that contains "=" in quotes',),
    ),
}

CASES: list[tuple[str, Callable[[str], Descriptor | File], Mistake]] = [
    (f"{parse.__name__}: {kind}", parse, mistake)
    for parse, mistakes in (
        (parse_descriptor, DESCRIPTORS),
        (short, SHORT_FORMS),
        (parse_config, LINES | CONFIG_ONLY),
        (parse_xconfig, LINES | XCONFIG_ONLY),
    )
    for kind, mistake in mistakes.items()
]


@pytest.mark.parametrize(
    ("parse", "mistake"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_mistake(parse: Callable[[str], Descriptor | File], mistake: Mistake) -> None:
    with pytest.raises(TextError) as raised:
        parse(mistake.text)
    span = raised.value.span
    assert span is not None
    assert (span.line, span.column) == (mistake.line, mistake.column)
    assert raised.value.message == mistake.message
    first, line, caret, *rest = str(raised.value).split("\n")
    assert first.endswith(f":{mistake.line}:{mistake.column}: {mistake.message}")
    assert line.startswith(f"{mistake.line} | ")
    assert caret.strip(" |") == mistake.caret
    assert caret.index("^") == len(f"{mistake.line} | ") + mistake.column - 1
    for part in mistake.more:
        assert part in "\n".join(rest)


def test_no_name_of_a_grammar_symbol_reaches_the_user() -> None:
    grammars = Path(nnet.text.parse.__file__).parent.glob("*.lark")
    symbols = {
        line.split(":")[0].split(".")[0].strip()
        for grammar in grammars
        for line in grammar.read_text().splitlines()
        if line[:1].isupper()
    }
    assert "IF_DEFINED" in symbols
    for _, parse, mistake in CASES:
        with pytest.raises(TextError) as raised:
            parse(mistake.text)
        words = set(str(raised.value).replace("(", " ").replace("'", " ").split())
        assert not words & symbols - {"OFFSET"}


def test_every_word_of_the_grammar_has_a_usage() -> None:
    grammar = Path(nnet.text.parse.__file__).with_name("descriptor.lark").read_text()
    words = [line.split('"')[1] for line in grammar.splitlines() if ': "' in line]
    assert {word for word in words if word.isalpha() and len(word) > 1} == set(USAGE)
