"""What a user sees after a mistake in an xconfig: place, line, caret, expectation, help."""

from __future__ import annotations

import pytest

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.xconfig import expand
from nnet.xconfig.registry import layer_types
from tests.xconfig.mistake import Mistake, assert_reported

IN = "input name=input dim=10\n"
OUT = "\noutput-layer name=output dim=5"

MISTAKES = {
    "unknown layer type": Mistake(
        IN + "relu-bachnorm-layer name=a dim=3" + OUT,
        2,
        1,
        "relu-bachnorm-layer",
        "unknown layer type 'relu-bachnorm-layer'",
        (
            f"expected: one of the {len(layer_types())} layer types that nnet xconfig --list",
            "did you mean 'relu-batchnorm-layer'?",
        ),
    ),
    "config line in an xconfig": Mistake(
        IN + "component-node name=a component=a input=input",
        2,
        1,
        "component-node",
        "'component-node' belongs in a config file",
        ("expected: a layer type, as this is an xconfig",),
    ),
    "unknown option": Mistake(
        IN + "relu-layer name=a dims=3" + OUT,
        2,
        19,
        "dims",
        "relu-layer has no option 'dims'",
        ("expected: one of name, add-log-stddev, bias-stddev,", "did you mean 'dim'?"),
    ),
    "no name": Mistake(
        IN + "relu-layer dim=3" + OUT, 2, 1, "relu-layer dim=3", "this relu-layer has no name"
    ),
    "name that is no name": Mistake(
        IN + "relu-layer name=1a dim=3" + OUT,
        2,
        17,
        "1a",
        "wrong value '1a' for 'name'",
        ("expected: letters, digits, '_', '-' and '.', starting with",),
    ),
    "name of a descriptor": Mistake(
        IN + "relu-layer name=Append dim=3" + OUT,
        2,
        17,
        "Append",
        "a layer cannot be called 'Append'",
        ("'Append' is a word of descriptors",),
    ),
    "duplicate name": Mistake(
        IN + "relu-layer name=a dim=3\n\ntanh-layer name=a dim=3" + OUT,
        4,
        17,
        "a",
        "the name 'a' is taken by the relu-layer in line 2",
        ("expected: a name of its own for each layer",),
    ),
    "missing dim of an input": Mistake(
        "input name=input" + OUT,
        1,
        1,
        "input name=input",
        "input 'input' has no dim",
        ("expected: dim=...: number of columns of the features",),
    ),
    "missing bottleneck-dim": Mistake(
        IN + "tdnnf-layer name=a dim=10 # comment" + OUT,
        2,
        1,
        "tdnnf-layer name=a dim=10",
        "tdnnf-layer 'a' has no bottleneck-dim",
        ("expected: bottleneck-dim=...: number of columns between the two transforms",),
    ),
    "empty dim": Mistake(
        IN + "relu-layer name=a dim=" + OUT,
        2,
        23,
        "",
        "wrong value '' for 'dim'",
        ("expected: an integer",),
    ),
    "wrong type, integer": Mistake(
        IN + "relu-layer name=a dim=3.5" + OUT,
        2,
        23,
        "3.5",
        "wrong value '3.5' for 'dim'",
        ("expected: an integer",),
    ),
    "wrong type, number": Mistake(
        IN + "relu-layer name=a dim=3 target-rms=one" + OUT,
        2,
        36,
        "one",
        "wrong value 'one' for 'target-rms'",
        ("expected: a number",),
    ),
    "wrong type of an option for the component": Mistake(
        IN + "relu-layer name=a dim=3 l2-regularize=no" + OUT,
        2,
        39,
        "no",
        "wrong value 'no' for 'l2-regularize'",
        ("expected: a number",),
    ),
    "wrong type, boolean": Mistake(
        IN + "output-layer name=output dim=5 include-log-softmax=no",
        2,
        52,
        "no",
        "wrong value 'no' for 'include-log-softmax'",
        ("expected: true or false",),
    ),
    "forgotten equals sign": Mistake(
        IN + "relu-layer name=a dim=3 target-rms 2" + OUT,
        2,
        23,
        "3 target-rms 2",
        "wrong value '3 target-rms 2' for 'dim'",
        ("is a '=' missing after 'target-rms'?",),
    ),
    "negative dim": Mistake(
        IN + "relu-layer name=a dim=-3" + OUT,
        2,
        23,
        "-3",
        "dim (=-3) must be positive",
        ("dim: number of columns of the output",),
    ),
    "proportion out of range": Mistake(
        IN + "relu-dropout-layer name=a dim=3 dropout-proportion=1.5" + OUT,
        2,
        52,
        "1.5",
        "dropout-proportion (=1.5) must be from 0 to 1",
    ),
    "bypass-scale out of range": Mistake(
        IN + "tdnnf-layer name=a dim=10 bottleneck-dim=3 bypass-scale=1.1" + OUT,
        2,
        57,
        "1.1",
        "bypass-scale (=1.1) must be from -1 to 1",
    ),
    "word out of a choice": Mistake(
        IN + "output-layer name=output dim=5 objective-type=cubic",
        2,
        47,
        "cubic",
        "wrong value 'cubic' for 'objective-type'",
        ("expected: linear or quadratic",),
    ),
    "bottleneck that is none": Mistake(
        IN + "relu-layer name=a dim=4 bottleneck-dim=4" + OUT,
        2,
        40,
        "4",
        "bottleneck-dim (=4) must be positive and below dim (=4)",
    ),
    "bottleneck of an output that is none": Mistake(
        IN + "output-layer name=output dim=20 bottleneck-dim=10",
        2,
        48,
        "10",
        "bottleneck-dim (=10) must be positive, below the dimension of the input (=10) "
        "and below dim (=20)",
    ),
    "log-stddev without renorm": Mistake(
        IN + "relu-layer name=a dim=4 add-log-stddev=true" + OUT,
        2,
        40,
        "true",
        "add-log-stddev needs a renorm at the end, which relu-layer lacks",
        ("use relu-renorm-layer, or remove add-log-stddev",),
    ),
    "small-dim above big-dim": Mistake(
        IN + "prefinal-layer name=a big-dim=4 small-dim=8" + OUT,
        2,
        43,
        "8",
        "small-dim (=8) must be below big-dim (=4)",
    ),
    "bypass between different dimensions": Mistake(
        IN + "tdnnf-layer name=a dim=12 bottleneck-dim=4" + OUT,
        2,
        24,
        "12",
        "tdnnf-layer 'a' with dim 12 adds its input 'input', which has dim 10",
        ("expected: dim=10, or bypass-scale=0 for no sum",),
    ),
    "sum of different dimensions": Mistake(
        IN + "relu-layer name=a dim=4\nno-op-component name=b input=Sum(input, a@-1)" + OUT,
        3,
        41,
        "a@-1",
        "the parts of Sum differ in dimension: 'input' has 10, 'Offset(a, -1)' has 4",
        ("expected: parts of one dimension",),
    ),
    "failover between different dimensions": Mistake(
        IN + "no-op-component name=b input=Failover([-1], Const(0, 9))" + OUT,
        2,
        45,
        "Const(0, 9)",
        "the parts of Failover differ in dimension: 'input' has 10, 'Const(0.0, 9)' has 9",
    ),
    "dim of a plain output": Mistake(
        IN + "output name=output dim=5",
        2,
        24,
        "5",
        "output 'output' has dim=5, but what it reads has dim 10",
    ),
    "columns that are not there": Mistake(
        IN + "dim-range-component name=a dim=6 dim-offset=5" + OUT,
        2,
        45,
        "5",
        "columns 5 to 11 are asked for, but 'input' has only 10",
    ),
    "columns of a descriptor": Mistake(
        IN + "dim-range-component name=a dim=6 input=Append(-1,1)" + OUT,
        2,
        40,
        "Append(-1,1)",
        "dim-range-component cannot read the descriptor 'Append(-1,1)'",
        ("expected: the name of one layer", "put a no-op-component with this input in front"),
    ),
    "missing layer": Mistake(
        IN + "relu-layer name=tdnn1 dim=4\nrelu-layer name=b dim=4 input=Sum(tdn1, tdnn1)" + OUT,
        3,
        35,
        "tdn1",
        "no layer 'tdn1'",
        ("did you mean 'tdnn1'?", "layers so far: input, tdnn1"),
    ),
    "later layer": Mistake(
        IN + "relu-layer name=a dim=4 input=b@1\nrelu-layer name=b dim=4" + OUT,
        2,
        31,
        "b",
        "layer 'b' comes only in line 3",
        ("expected: a layer above this line", "layers so far: input"),
    ),
    "the layer itself": Mistake(
        IN + "relu-layer name=a dim=4 input=Append(input, a@-1)" + OUT,
        2,
        45,
        "a",
        "relu-layer 'a' reads itself",
        ("expected: a layer above this line",),
    ),
    "no such auxiliary output": Mistake(
        IN + "output-layer name=o dim=4\nrelu-layer name=a input=o.afine",
        3,
        25,
        "o.afine",
        "output-layer 'o' has no auxiliary output 'afine'",
        ("expected: o.affine or o.log-softmax", "did you mean 'affine'?"),
    ),
    "auxiliary output of a layer without": Mistake(
        IN + "relu-layer name=a\nrelu-layer name=b input=a.relu" + OUT,
        3,
        25,
        "a.relu",
        "relu-layer 'a' has no auxiliary output 'relu'",
        ("expected: a",),
    ),
    "output as an input": Mistake(
        IN + "output-layer name=output dim=4\nrelu-layer name=a",
        3,
        1,
        "relu-layer",
        "output-layer 'output' is an output of the network, which no layer can read",
        ("expected: output.affine or output.log-softmax",),
    ),
    "too far back": Mistake(
        IN + "relu-layer name=a dim=4 input=Sum([-1], [-3])" + OUT,
        2,
        41,
        "[-3]",
        "[-3] needs 3 layers above this line, and there is only 1 of them",
        ("layers so far: input",),
    ),
    "short form with the wrong sign": Mistake(
        IN + "relu-layer name=a dim=4 input=[1]" + OUT, 2, 32, "1", "[1] does not point back"
    ),
    "unclosed parenthesis": Mistake(
        IN + "relu-layer name=a input=Append(-1,0 dim=4" + OUT,
        2,
        31,
        "(",
        "this '(' is never closed",
        ("usage: Append(DESCRIPTOR, DESCRIPTOR, ...)",),
    ),
    "mistake in settings for a component": Mistake(
        IN + 'relu-layer name=a ng-affine-options="alpha"' + OUT,
        2,
        38,
        "alpha",
        "no '=' after 'alpha'",
    ),
    "first layer that is no input": Mistake(
        "# no input\nrelu-layer name=a dim=4" + OUT,
        2,
        1,
        "relu-layer",
        "the first layer is a relu-layer",
        ("expected: an input, such as: input name=input dim=40",),
    ),
    "no output": Mistake(
        IN + "relu-layer name=a dim=4\n",
        2,
        1,
        "relu-layer",
        "this xconfig has no output",
        ("such as: output-layer name=output dim=100",),
    ),
    "two layers with a node of one name": Mistake(
        IN + "relu-layer name=a\nno-op-component name=a.relu" + OUT,
        3,
        1,
        "no-op-component name=a.relu",
        "this layer makes a node 'a.relu', which a layer in line 2 has made",
        ("expected: other names for the layers",),
    ),
    "two transforms in init.config": Mistake(
        IN
        + "fixed-affine-layer name=a affine-transform-file=a.mat input=input\n"
        + "fixed-affine-layer name=b affine-transform-file=b.mat input=input"
        + OUT,
        3,
        1,
        "fixed-affine-layer name=b affine-transform-file=b.mat input=input",
        "a second layer writes the output of init.config",
        ("set write-init-config=false in all but one",),
    ),
    "transform behind a layer that init.config lacks": Mistake(
        IN
        + "batchnorm-component name=a\n"
        + "fixed-affine-layer name=b affine-transform-file=b.mat input=a@1"
        + OUT,
        3,
        61,
        "a",
        "the layer of 'a' is not in init.config, whose output needs it",
        ("set include-in-init=true in that layer, or write-init-config=false in this one",),
    ),
    "no file of a transform": Mistake(
        IN + "idct-layer name=a" + OUT,
        2,
        1,
        "idct-layer name=a",
        "idct-layer 'a' has no affine-transform-file",
    ),
    "liftering that cannot be undone": Mistake(
        IN + "idct-layer name=a affine-transform-file=a.mat cepstral-lifter=2" + OUT,
        2,
        63,
        "2",
        "cepstral-lifter (=2.0) sets coefficient 3 to zero, which cannot be undone",
    ),
    "liftering out of range": Mistake(
        IN + "idct-layer name=a affine-transform-file=a.mat cepstral-lifter=1e-320" + OUT,
        2,
        63,
        "1e-320",
        "cepstral-lifter (=1e-320) must be 0, or 1 and more",
    ),
    "matrix that is too large": Mistake(
        IN + "idct-layer name=a affine-transform-file=a.mat dim=2000000000" + OUT,
        2,
        51,
        "2000000000",
        "a matrix of 2000000000 by 10 is too large for a cosine transform",
    ),
    "empty name of a file": Mistake(
        IN + "fixed-affine-layer name=a affine-transform-file=" + OUT,
        2,
        49,
        "",
        "fixed-affine-layer 'a' has an empty affine-transform-file",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    assert_reported(mistake)


def test_an_empty_xconfig() -> None:
    with pytest.raises(TextError, match=r"net\.xconfig: no layer in this xconfig"):
        expand(parse_xconfig("# nothing\n", "net.xconfig"))
