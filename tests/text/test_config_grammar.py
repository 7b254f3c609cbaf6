"""Config files: what is legal, and what it means. Kaldi: ConfigLine in util/text-utils."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.text.parse import descriptor_of, parse_config, read_config, settings_of
from nnet.text.source import TextError
from nnet.text.syntax import Line, NodeName, Offset, Setting
from nnet.text.write import write_file

GOLDEN = Path(__file__).parents[1] / "golden"


def only_line(text: str) -> Line:
    (line,) = parse_config(text).lines
    return line


def values(text: str) -> dict[str, str]:
    return {setting.key: setting.value for setting in only_line(text).settings}


def test_a_line_is_a_word_and_settings_in_order() -> None:
    line = only_line("component-node name=a component=b input=c")
    assert line == Line(
        "component-node", (Setting("name", "a"), Setting("component", "b"), Setting("input", "c"))
    )


def test_a_word_can_stand_alone() -> None:
    assert only_line("remove-orphans") == Line("remove-orphans", ())


def test_blank_lines_and_comments_are_left_out() -> None:
    file = parse_config("# header\n\n   \n  # indented\na x=1 # why\nb\n\n# end")
    assert [line.word for line in file.lines] == ["a", "b"]
    assert [line.comment for line in file.lines] == ["why", ""]


def test_a_comment_needs_no_blank_in_front() -> None:
    assert values("a x=1#2") == {"x": "1"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_end_with_or_without_carriage_return(newline: str) -> None:
    file = parse_config(newline.join(["a x=1", "", "b y='2'", "c z=Sum(p, q)", ""]))
    assert [line.settings[0].value for line in file.lines] == ["1", "2", "Sum(p, q)"]


def test_blanks_and_tabs_separate_settings() -> None:
    assert values("  a\tx=1 \t  y=2\t") == {"x": "1", "y": "2"}


def test_a_value_may_have_blanks_and_ends_before_the_next_key() -> None:
    text = "component-node name=a input=Append( Offset(b, -1) , c ) component=d"
    assert values(text)["input"] == "Append( Offset(b, -1) , c )"
    assert values("foo-bar a=b c d f=g") == {"a": "b c d", "f": "g"}


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_hold_equals_signs_and_outer_blanks(quote: str) -> None:
    assert values(f"a x={quote} k=1 l=2 {quote} y=3") == {"x": " k=1 l=2 ", "y": "3"}


def test_a_quote_of_one_kind_holds_the_other() -> None:
    assert values("""a x="it's" y='"'""") == {"x": "it's", "y": '"'}


def test_a_quote_inside_an_unquoted_value_is_a_character() -> None:
    assert values('a x=b"c') == {"x": 'b"c'}


def test_a_key_may_follow_a_closing_quote_at_once() -> None:
    assert values("a x='1'y=2") == {"x": "1", "y": "2"}


def test_a_blank_after_the_equals_sign_is_ignored() -> None:
    assert values("a x= 1 y=\t'2'") == {"x": "1", "y": "2"}


def test_an_empty_value_is_written_in_quotes() -> None:
    assert values('a x="" y=2') == {"x": "", "y": "2"}


def test_an_unquoted_value_may_hold_an_equals_sign() -> None:
    assert values("a matrix=exp/lr=0.1/lda.mat dim=3") == {
        "matrix": "exp/lr=0.1/lda.mat",
        "dim": "3",
    }


def test_the_first_of_two_equal_keys_counts() -> None:
    first = only_line("a max-change=0.75 max-change=1.5").get("max-change")
    assert first is not None
    assert first.value == "0.75"


def test_spans_point_into_the_file() -> None:
    line = parse_config("a\n  b  key='va lue' # c\n", "net.config").lines[1]
    (setting,) = line.settings
    assert line.span is not None
    assert line.span.text == "b  key='va lue'"
    assert line.word_span is not None
    assert line.word_span.place == "net.config:2:3"
    assert setting.span is not None
    assert setting.span.text == "key='va lue'"
    assert setting.key_span is not None
    assert setting.key_span.text == "key"
    assert setting.value_span is not None
    assert setting.value_span.text == "va lue"


def test_the_descriptor_of_a_setting_has_spans_in_the_file() -> None:
    setting = only_line("output-node name=o input=Offset(hidden, -3)").settings[1]
    descriptor = descriptor_of(setting)
    assert descriptor == Offset(NodeName("hidden"), -3)
    assert isinstance(descriptor, Offset)
    assert descriptor.span is not None
    assert descriptor.span.column == 26
    assert descriptor.source.span is not None
    assert descriptor.source.span.text == "hidden"


def test_an_error_in_the_descriptor_of_a_quoted_value_points_into_the_file() -> None:
    setting = parse_config("\noutput-node input='Sum(a b)'", "x.config").lines[0].settings[0]
    with pytest.raises(TextError, match=r"x\.config:2:26: found 'b'"):
        descriptor_of(setting)


def test_a_setting_made_by_a_program_has_a_descriptor_too() -> None:
    assert descriptor_of(Setting("input", "Offset(a, 1)")) == Offset(NodeName("a"), 1)


def test_settings_inside_quotes_have_spans_in_the_file() -> None:
    setting = only_line("component component1='type=TanhComponent dim=8'").settings[0]
    inner = settings_of(setting)
    assert inner == (Setting("type", "TanhComponent"), Setting("dim", "8"))
    assert inner[1].value_span is not None
    assert inner[1].value_span.column == 46


def test_an_error_in_settings_inside_quotes_stays_inside_them() -> None:
    setting = only_line('component component1="type=TanhComponent dim="').settings[0]
    with pytest.raises(TextError, match="1:46: 'dim' has no value"):
        settings_of(setting)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*/net.config")), ids=lambda p: p.parent.name)
def test_golden_config_files_are_read_and_written(path: Path) -> None:
    file = read_config(str(path))
    assert parse_config(write_file(file)) == file
    for line in file.lines:
        setting = line.get("input")
        if setting is not None:
            descriptor_of(setting)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "final.raw"
    path.write_bytes(b"\0B<Nnet3> \xff\xfe")
    with pytest.raises(NnetError, match=r"final\.raw.*byte 10 is not UTF-8"):
        read_config(str(path))


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "net.config"
    path.write_text("a x=1", encoding="utf-8-sig")
    assert read_config(str(path)).lines[0].word == "a"


def test_threads_parse_side_by_side() -> None:
    def parse(number: int) -> bool:
        text = f"n{number} " + " ".join(f"k{i}={number}-{i}" for i in range(200))
        (line,) = parse_config(text, f"file{number}").lines
        spans = [s.value_span for s in line.settings]
        return all(
            span is not None and span.text == s.value and span.source.name == f"file{number}"
            for s, span in zip(line.settings, spans, strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(parse, range(64)))
