"""Kaldi's configuration files."""

from dataclasses import dataclass

import pytest

from nnet.errors import NnetError
from nnet.text.options_file import OptionsFile, read_options


@dataclass(frozen=True)
class Options:
    num_bins: int = 23
    low_freq: float = 20.0
    use_energy: bool = True
    window_type: str = "povey"

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise NnetError(f"--num-bins is {self.num_bins}; expected: at least 1")


@dataclass(frozen=True)
class Rule:
    min_trailing_silence: float = 1.0


def taken(text, options=Options, prefix=""):
    file = OptionsFile.parse(text, "x.conf")
    found = file.take(options, prefix)
    file.finish()
    return found


def test_every_type_of_value():
    text = "--num-bins=40\n--low-freq = 64.5 \n--use-energy=false\n--window-type=hamming\n"
    assert taken(text) == Options(40, 64.5, False, "hamming")


def test_comments_and_empty_lines():
    assert taken("# all of it\n\n--num-bins=40 # more bins\n").num_bins == 40


def test_a_name_alone_is_true():
    assert taken("--use-energy=false\n--use-energy").use_energy is True


def test_the_last_of_a_name_counts_and_underscores_are_hyphens():
    assert taken("--num-bins=1\n--num_bins=2\n").num_bins == 2


def test_a_prefix():
    text = "--endpoint.rule1.min-trailing-silence=0.5"
    assert taken(text, Rule, "endpoint.rule1.").min_trailing_silence == 0.5


def test_options_of_two_classes_in_one_file():
    file = OptionsFile.parse("--num-bins=3\n--min-trailing-silence=2\n", "x.conf")
    assert file.take(Options).num_bins == 3
    assert file.take(Rule).min_trailing_silence == 2.0
    file.finish()


def test_options_that_are_left_to_others():
    file = OptionsFile.parse("--endpoint.x=3\n", "x.conf")
    file.ignore("endpoint.")
    file.finish()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num-bins=40", "x.conf:1: found 'num-bins=40'; expected: --name=value"),
        ("\n--num-bin=40", "x.conf:2: there is no option '--num-bin'; did you mean '--num-bins'?"),
        ("--num-bins=4.5", "x.conf:1: wrong value '4.5' for '--num-bins'; expected: an integer"),
        ("--use-energy=x", "x.conf:1: wrong value 'x' for '--use-energy'; expected: true or false"),
        ("--num-bins=0", "x.conf: --num-bins is 0; expected: at least 1"),
    ],
)
def test_mistakes_are_shown_with_file_and_line(text, message):
    with pytest.raises(NnetError) as error:
        taken(text)
    assert str(error.value) == message


def test_a_name_that_resembles_none_lists_all():
    with pytest.raises(NnetError, match="options: --low-freq, --num-bins"):
        taken("--zzz=1")


def test_a_missing_file(tmp_path):
    with pytest.raises(NnetError, match="cannot read"):
        read_options(str(tmp_path / "none.conf"), Options)


def test_words_in_one_line(tmp_path):
    (tmp_path / "splice_opts").write_text("--num-bins=3 --low-freq=1\n")
    assert OptionsFile.read_words(str(tmp_path / "splice_opts")).take(Options) == Options(3, 1.0)
