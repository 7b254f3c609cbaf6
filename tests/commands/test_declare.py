"""Commands made of dataclasses, and Kaldi's rules for options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from nnet.commands.declare import command
from nnet.commands.words import normalized
from nnet.errors import NnetError
from nnet.options import Option, frame_counts, given, missing, option


@dataclass(frozen=True)
class Inner:
    scale: float = option(0.5, "A scale.", applies=given("egs"))


@dataclass(frozen=True)
class Outer:
    egs: tuple[str, ...] = option((), "Examples.", many=True)
    width: tuple[int, ...] = option(
        (1,), "Frames [1; with --egs 3].", parse=frame_counts,
        usual=lambda values: (3,) if values["egs"] else (1,),
    )  # fmt: skip
    apply_exp: bool = option(False, "Exponents.", applies=missing("egs"))
    seed: int = option(4, "Seed.", names=("--srand", "--seed"), least=0)
    inner: Inner = field(default_factory=Inner)


calls: list[tuple[str, Outer, bool]] = []


def example(
    model: Annotated[str, typer.Argument(help="A model.")],
    outer: Outer,
    binary: Annotated[bool, Option("Binary form.")] = True,
) -> None:
    """Does nothing. Example: nnet example m"""
    calls.append((model, outer, binary))


def call(*words: str) -> tuple[str, Outer, bool]:
    described = command(example)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(described.run)
    app(normalized(words, described.booleans, "nnet example"), standalone_mode=False)
    return calls.pop()


def test_options_are_the_fields_of_dataclasses_with_their_defaults() -> None:
    assert call("m") == ("m", Outer(), True)
    words = ["m", "--egs", "a", "--egs=b", "--scale=2", "--srand=7", "--width", "5,6"]
    made = Outer(("a", "b"), (5, 6), False, 7, Inner(2.0))
    assert call(*words) == ("m", made, True)


def test_a_default_may_depend_on_other_options() -> None:
    assert call("m", "--egs=a")[1].width == (3,)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--apply-exp", "m"], True),
        (["--apply-exp=true", "m"], True),
        (["--apply_exp=false", "m"], False),
        (["--apply-exp", "false", "m"], False),
        (["--apply-exp", "--no-apply-exp", "m"], False),
    ],
)
def test_booleans_have_kaldis_spelling(words: list[str], expected: bool) -> None:
    assert call(*words)[1].apply_exp is expected


def test_an_option_without_effect_says_when_it_has_one() -> None:
    for words, message in (
        (["--scale=0.5"], "--scale has no effect here; it applies with --egs"),
        (["--egs=a", "--apply-exp"], "--apply-exp has no effect here; it applies without --egs"),
        (["--srand=-1"], "--srand is -1, expected at least 0"),
        (["--binary=no"], "wrong value 'no' for '--binary', expected true or false"),
    ):
        with pytest.raises(NnetError) as error:
            call("m", *words)
        assert str(error.value) == message


def test_options_from_files_come_before_the_others(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text("# options\n--srand=9   # seed\n\n--apply-exp=true\n")
    assert call(f"--config={file}", "m")[1] == Outer(apply_exp=True, seed=9)
    assert call("m", "--srand=3", f"--config={file}")[1].seed == 3
    file.write_text("srand=9\n")
    with pytest.raises(NnetError, match="conf:1: 'srand=9'; expected: an option, --name=value"):
        call(f"--config={file}", "m")


def test_the_command_line_is_printed_where_that_is_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call("--print-args=false", "--verbose=0", "m")
    assert capsys.readouterr().err == ""
    call("--print-args=true", "a b")
    assert capsys.readouterr().err == "nnet example --print-args=true 'a b'\n"


def test_words_after_two_dashes_are_left() -> None:
    assert normalized(["--", "--raw"], {"--raw"}, "x") == ["--", "--raw"]


def test_help_tells_defaults() -> None:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command(example).run)
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for text in (
        "--srand, --seed INTEGER Seed [4].",
        "--scale FLOAT A scale [0.5].",
        "--apply-exp true|false Exponents.",
        "--binary true|false Binary form [true].",
        "--width TEXT Frames [1; with --egs 3].",
        "MODEL A model.",
    ):
        assert text in shown
