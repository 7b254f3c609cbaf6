"""Kaldi's rules for the words of a command line."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence

from nnet.errors import NnetError

TRUTHS = ("true", "false")


def normalized(words: Sequence[str], booleans: Collection[str], program: str) -> list[str]:
    """Words as typer reads them.

    A boolean is `--name`, `--name=true`, `--name true` or `--no-name`; `_` in names is `-`.
    `--config=FILE` stands for the options in a file, which others overrule; `--print-args` prints
    the command line to standard error, `--verbose=N` logs more.

    Args:
        words: after the command's name.
        booleans: the options that are true or false.
        program: how the command is called.

    Raises:
        NnetError: a file of options cannot be read, or is none.
    """
    given: list[str] = []
    from_files: list[str] = []
    rest = iter(range(len(words)))
    for place in rest:
        word = words[place]
        if word == "--":
            given += words[place:]
            break
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name == "--config" and equals:
            from_files += normalized([*_options_of_file(value)], booleans, program)
        elif name == "--print-args":
            if value != "false":
                print(program, shlex.join(words), file=sys.stderr)
        elif name == "--verbose" and equals:
            _be_verbose(value)
        elif name in booleans and not equals:
            follows = words[place + 1] if place + 1 < len(words) else ""
            given.append(f"{name}={follows if follows in TRUTHS else 'true'}")
            if follows in TRUTHS:
                next(rest)
        elif name.startswith("--no-") and not equals and "--" + name[5:] in booleans:
            given.append(f"--{name[5:]}=false")
        else:
            given.append(name + equals + value)
    return from_files + given


def _options_of_file(path: str) -> Iterator[str]:
    """The options in a file, one a line; `#` begins a comment."""
    from nnet.text.files import read_text

    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.split("#")[0].strip()
        if text and not text.startswith("--"):
            raise NnetError(f"{path}:{number}: '{text[:200]}'; expected: an option, --name=value")
        if text:
            yield text


def _be_verbose(level: str) -> None:
    try:
        number = int(level)
    except ValueError:
        raise NnetError(f"--verbose is '{level}'; expected: a number") from None
    if number > 0:
        kinds = {1: logging.INFO}
        logging.basicConfig(
            format="%(levelname)s: %(message)s", level=kinds.get(number, logging.DEBUG)
        )
