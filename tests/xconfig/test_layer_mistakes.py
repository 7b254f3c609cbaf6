"""Mistakes in the options of each family of layers, and dimensions that do not fit."""

from __future__ import annotations

import pytest

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.option import Extra, InputOption, Option, Passed
from nnet.xconfig.registry import layer_types
from tests.xconfig.mistake import Mistake, assert_reported

IN = "input name=input dim=24\n"
OUT = "\noutput-layer name=output dim=5"


def wrong(line: str, column: int, marked: str, message: str, *more: str) -> Mistake:
    """A mistake in line 2, behind an input of 24 columns."""
    return Mistake(IN + line + OUT, 2, column, marked, message, more)


MISTAKES = {
    "no cells": wrong(
        "lstmp-layer name=a",
        1,
        "lstmp-layer name=a",
        "lstmp-layer 'a' has no cell-dim",
        "expected: cell-dim=...: number of memory cells",
    ),
    "cells below zero": wrong(
        "lstm-layer name=a cell-dim=-5",
        28,
        "-5",
        "cell-dim (=-5) must be positive",
        "cell-dim: number of memory cells (default: the input's)",
    ),
    "no delay": wrong(
        "fast-lstm-layer name=a cell-dim=8 delay=0",
        41,
        "0",
        "delay (=0) must be positive or negative, not zero",
        "negative for the past, positive for the future (default: -1)",
    ),
    "projection that is too wide": wrong(
        "fast-lstmp-layer name=a cell-dim=8 recurrent-projection-dim=6",
        61,
        "6",
        "recurrent-projection-dim (=6) and non-recurrent-projection-dim (=6) are 12 together, "
        "more than cell-dim (=8)",
    ),
    "projection by default of few cells": wrong(
        "opgru-layer name=a cell-dim=3",
        29,
        "3",
        "cell-dim (=3) has no quarter for recurrent-projection-dim",
        "expected: a cell-dim of 4 or more, or a recurrent-projection-dim",
    ),
    "memory that fades too fast": wrong(
        "lstmp-layer name=a cell-dim=8 delay=-3 decay-time=2",
        51,
        "2",
        "decay-time (=2.0) must be more than the 3 frames of delay",
        "leave decay-time out for a memory that does not fade",
    ),
    "gate dropout out of range": wrong(
        "norm-pgru-layer name=a cell-dim=8 dropout-proportion=1.5",
        54,
        "1.5",
        "dropout-proportion (=1.5) must be from 0 to 1",
    ),
    "no dropout in this layer": wrong(
        "pgru-layer name=a cell-dim=8 dropout-proportion=0",
        30,
        "dropout-proportion",
        "pgru-layer has no option 'dropout-proportion'",
    ),
    "repair out of range": wrong(
        "gru-layer name=a self-repair-scale-nonlinearity=2",
        49,
        "2",
        "self-repair-scale-nonlinearity (=2) must be from 0 to 1",
    ),
    "no bottleneck of an lstmb-layer": wrong(
        "lstmb-layer name=a cell-dim=8",
        1,
        "lstmb-layer name=a cell-dim=8",
        "lstmb-layer 'a' has no bottleneck-dim",
    ),
    "zeroing interval of zero": wrong(
        "fast-gru-layer name=a cell-dim=8 zeroing-interval=0",
        51,
        "0",
        "zeroing-interval (=0) must be positive",
    ),
    "auxiliary output of an lstm": Mistake(
        IN + "lstm-layer name=a\nno-op-component name=b input=a.c" + OUT,
        3,
        30,
        "a.c",
        "lstm-layer 'a' has no auxiliary output 'c'",
        ("expected: a or a.c_t",),
    ),
    "no window of statistics": wrong(
        "stats-layer name=a",
        1,
        "stats-layer name=a",
        "stats-layer 'a' has no config",
        "expected: config=...: which statistics, and of which frames",
    ),
    "window that is none": wrong(
        "stats-layer name=a config=stddev(-9:3:9:9)",
        27,
        "stddev(-9:3:9:9)",
        "wrong value 'stddev(-9:3:9:9)' for 'config'",
        "expected: mean(LEFT:INPUT-PERIOD:PERIOD:RIGHT) in frames, such as mean(-99:3:9:99)",
    ),
    "window without its frame": wrong(
        "stats-layer name=a config=mean(3:3:3:9)",
        27,
        "mean(3:3:3:9)",
        "the window from 3 to 9 does not hold the frame itself",
    ),
    "periods that do not fit": wrong(
        "stats-layer name=a config=mean(-9:2:9:9)",
        27,
        "mean(-9:2:9:9)",
        "the period (=9) must be a multiple of the input period (=2), both positive",
    ),
    "window between the periods": wrong(
        "stats-layer name=a config=mean(-10:3:9:9)",
        27,
        "mean(-10:3:9:9)",
        "the window from -10 to 9 must begin and end at multiples of the period (=9)",
    ),
    "dim of statistics": wrong(
        "stats-layer name=a config=mean+stddev(-9:3:9:9) dim=24",
        53,
        "24",
        "dim (=24) differs from the 48 columns of the statistics of 'input', which has dim 24",
        "leave dim out",
    ),
    "no height of a convolution": wrong(
        "conv-layer name=a num-filters-out=2",
        1,
        "conv-layer name=a num-filters-out=2",
        "conv-layer 'a' has no height-in",
        "expected: height-in=...: height of the input",
    ),
    "height that does not divide": wrong(
        "conv-relu-layer name=a height-in=7 height-out=7 num-filters-out=2 time-offsets=0 "
        "height-offsets=0",
        34,
        "7",
        "height-in (=7) of conv-relu-layer 'a' does not divide the 24 columns of 'input'",
    ),
    "height that grows": wrong(
        "conv-layer name=a height-in=8 height-out=9 num-filters-out=2 time-offsets=0 "
        "height-offsets=-1,0,1",
        42,
        "9",
        "height-out (=9) does not fit height-in (=8) with height-subsample-out (=1)",
        "expected: a height-out from 5 to 8",
    ),
    "height that vanishes": wrong(
        "conv-layer name=a height-in=8 height-out=1 height-subsample-out=2 num-filters-out=2 "
        "time-offsets=0 height-offsets=-1,0,1",
        42,
        "1",
        "height-out (=1) does not fit height-in (=8) with height-subsample-out (=2)",
        "expected: a height-out from 3 to 4",
    ),
    "offsets out of order": wrong(
        "conv-layer name=a height-in=8 height-out=8 num-filters-out=2 time-offsets=0,-1 "
        "height-offsets=0",
        75,
        "0,-1",
        "wrong value '0,-1' for 'time-offsets'",
        "expected: integers in rising order, separated by commas, such as -1,0,1",
    ),
    "no offsets at all": wrong(
        'conv-layer name=a height-in=8 height-out=8 num-filters-out=2 time-offsets="" '
        "height-offsets=0",
        76,
        "",
        "conv-layer 'a' has an empty time-offsets",
    ),
    "required offset that is not read": wrong(
        "conv-layer name=a height-in=8 height-out=8 num-filters-out=2 time-offsets=-1,0 "
        "height-offsets=0 required-time-offsets=0,1",
        119,
        "0,1",
        "required-time-offsets has 1, which time-offsets (=-1,0) lacks",
    ),
    "filters that the input lacks": wrong(
        "conv-layer name=a height-in=8 num-filters-in=2 height-out=8 num-filters-out=2 "
        "time-offsets=0 height-offsets=0",
        46,
        "2",
        "num-filters-in (=2) of conv-layer 'a' and height-in (=8) make 16 columns, but 'input' "
        "has 24",
        "leave num-filters-in out",
    ),
    "other filters without a convolution": wrong(
        "relu-noconv-layer name=a height-in=8 num-filters-out=4",
        54,
        "4",
        "num-filters-out (=4) of relu-noconv-layer 'a' must be that of its input 'input' (=3), "
        "as it has no convolution",
        "leave num-filters-out out",
    ),
    "natural gradient that is no boolean": wrong(
        "conv-layer name=a use-natural-gradient=1 height-in=8 height-out=8 num-filters-out=2 "
        "time-offsets=0 height-offsets=0",
        40,
        "1",
        "wrong value '1' for 'use-natural-gradient'",
        "expected: true or false",
        "use-natural-gradient: whether training uses natural gradient",
    ),
    "average over blocks that do not fit": wrong(
        "channel-average-layer name=a dim=7",
        34,
        "7",
        "dim (=7) of channel-average-layer 'a' does not divide the 24 columns of 'input'",
    ),
    "image that is no image": wrong(
        "res-block name=a height=7",
        25,
        "7",
        "res-block 'a' with height 7 and 3 filters has 21 columns, but its input 'input' has 24",
        "expected: height * num-filters equal to the dimension of the input",
    ),
    "filters of a res-block": wrong(
        "res-block name=a height=8 num-filters=4",
        39,
        "4",
        "res-block 'a' with height 8 and 4 filters has 32 columns, but its input 'input' has 24",
    ),
    "bypass that does not exist": wrong(
        "res-block name=a height=8 bypass-source=rely",
        41,
        "rely",
        "wrong value 'rely' for 'bypass-source'",
        "expected: input or noop or relu or batchnorm",
        "did you mean 'relu'?",
    ),
    "bottleneck of a res-block": wrong(
        "res-block name=a height=8 num-bottleneck-filters=0",
        50,
        "0",
        "num-bottleneck-filters (=0) must be positive, or -1 for none",
    ),
    "res2-block without heights": wrong(
        "res2-block name=a num-filters=3",
        1,
        "res2-block",
        "res2-block 'a' has no heights",
        "expected: height, or height-in and height-out, all positive",
    ),
    "res2-block of a height that does not divide": wrong(
        "res2-block name=a num-filters=3 height=5",
        40,
        "5",
        "the height of the input (=5) of res2-block 'a' does not divide the 24 columns of 'input'",
    ),
    "res2-block that shrinks too much": wrong(
        "res2-block name=a num-filters=3 height-in=12 height-out=3",
        57,
        "3",
        "height-out (=3) must be height-in (=12) or about half of it",
    ),
    "odd period where the height is halved": wrong(
        "res2-block name=a num-filters=3 height-in=8 height-out=4 time-period=3",
        70,
        "3",
        "time-period (=3) must be even where the height is halved",
    ),
    "images that are not there": wrong(
        "combine-feature-maps-layer name=a height=4 num-filters1=3 num-filters2=4",
        42,
        "4",
        "combine-feature-maps-layer 'a' of height 4 and 7 filters has 28 columns, but its input "
        "'input' has 24",
        "expected: height * (num-filters1 + num-filters2 + num-filters3) equal to",
    ),
    "attention without keys": wrong(
        "attention-renorm-layer name=a value-dim=4 num-left-inputs=1 num-right-inputs=1",
        1,
        "attention-renorm-layer name=a value-dim=4 num-left-inputs=1 num-right-inputs=1",
        "attention-renorm-layer 'a' has no key-dim",
        "expected: key-dim=...: dimension of a key",
    ),
    "attention to frames out of the window": wrong(
        "attention-renorm-layer name=a key-dim=4 value-dim=4 num-left-inputs=1 "
        "num-right-inputs=1 num-left-inputs-required=2",
        115,
        "2",
        "num-left-inputs-required (=2) must be from 0 to num-left-inputs (=1), or -1",
    ),
    "dim of attention": wrong(
        "attention-renorm-layer name=a dim=20 key-dim=4 value-dim=4 num-left-inputs=1 "
        "num-right-inputs=1",
        35,
        "20",
        "dim (=20) does not set the dimension of attention-renorm-layer 'a', which is "
        "num-heads * (value-dim + window) = 7",
        "leave dim out, and choose num-heads and value-dim",
    ),
    "window of attention below zero": wrong(
        "attention-renorm-layer name=a key-dim=4 value-dim=4 num-left-inputs=-1 num-right-inputs=1",
        69,
        "-1",
        "num-left-inputs (=-1) must be zero or more",
    ),
    "shell variable": wrong(
        "tdnnf-layer name=a dim=24 bottleneck-dim=$bottleneck",
        42,
        "$bottleneck",
        "wrong value '$bottleneck' for 'bottleneck-dim'",
        "is $bottleneck a shell variable that was not filled in?",
        "bottleneck-dim: number of columns between the two transforms (required)",
    ),
    "context of a tdnnf-layer": wrong(
        "tdnnf-layer name=a dim=24 bottleneck-dim=4 context=left",
        52,
        "left",
        "wrong value 'left' for 'context'",
        "expected: default or left-only or shift-left or none",
        "context: which frames the affine transform reads (default: default)",
    ),
    "change of parameters below zero": wrong(
        "affine-layer name=a max-change=-1",
        32,
        "-1",
        "max-change (=-1) must be zero or more",
    ),
    "spec-augment of all frames": wrong(
        "spec-augment-layer name=a time-zeroed-proportion=1",
        50,
        "1",
        "time-zeroed-proportion (=1) must be above 0 and below 1",
    ),
    "delta of a descriptor": wrong(
        "delta-layer name=a input=Append(-1,1)",
        26,
        "Append(-1,1)",
        "delta-layer cannot read the descriptor 'Append(-1,1)'",
        "put a no-op-component with this input in front",
    ),
    "two layers with a component of one name": Mistake(
        IN + "lstm-layer name=a\nno-op-component name=a.c" + OUT,
        3,
        1,
        "no-op-component name=a.c",
        "this layer makes a component 'a.c', which a layer in line 2 has made",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    assert_reported(mistake)


def message(layer_type: str, key: str, value: str) -> str:
    """The first error of a layer type's example with one option set to a wrong value."""
    cls = layer_types()[layer_type]
    kept = [word for word in cls.example.split() if not word.startswith(f"{key}=")]
    line = f"{layer_type} {' '.join(kept)} {key}={value}"
    text = line if layer_type == "input" else f"input name=in dim={cls.example_dim}\n{line}"
    with pytest.raises(TextError) as raised:
        expand(parse_xconfig(f"{text}\noutput name=out", "net.xconfig"))
    span = raised.value.span
    assert span is not None
    assert span.text in (value, key)
    assert str(raised.value).startswith(f"net.xconfig:{span.line}:{span.column}: ")
    return str(raised.value)


@pytest.mark.parametrize("layer_type", layer_types())
def test_a_wrong_value_of_any_option_says_what_is_right(layer_type: str) -> None:
    for key, option in layer_types()[layer_type].options.items():
        if isinstance(option, Option | Passed) and option.accepts() != "text":
            text = message(layer_type, key, "?!")
            assert f"wrong value '?!' for '{key}'" in text
            assert f"expected: {option.accepts().partition(', ')[0]}" in text
            assert f"{key}: {option.doc}" in text
            assert option.default_text() in text
        elif isinstance(option, Extra):
            assert "no '=' after 'alpha'" in message(layer_type, key, "alpha")
        elif isinstance(option, InputOption):
            assert "no layer 'absent'" in message(layer_type, key, "absent")


@pytest.mark.parametrize("layer_type", layer_types())
def test_a_misspelt_option_names_the_nearest_one(layer_type: str) -> None:
    for key in layer_types()[layer_type].options:
        misspelt = key + "s"
        if misspelt not in layer_types()[layer_type].options:
            text = message(layer_type, misspelt, "1")
            assert f"{layer_type} has no option '{misspelt}'" in text
            assert "did you mean '" in text
