"""Files of nnet1 and nnet2: the same bytes after reading and writing, and the right numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.converters.nnet1.model import (
    Nnet1,
    build_nnet1,
    forward,
    nnet1_bytes,
    parse_nnet1,
    read_network,
)
from nnet.converters.nnet2.model import Nnet2Model, build_nnet2, nnet2_bytes, parse_nnet2
from nnet.modelfile.loading import open_bytes, open_file
from nnet.text.source import TextError
from tests.support import GOLDEN, cases, relative_error, table

LEGACY = GOLDEN / "legacy"


def nnet2(name: str, file: str) -> Path:
    return LEGACY / ("mdl" if name == "mdl" else f"nnet2/{name}") / file


NNET2_FILES = {
    name: (nnet2(name, "final.raw"), nnet2(name, "final.txt"), nnet2(name, "output.ark"))
    for name in cases("legacy/nnet2")
} | {"mdl": tuple(nnet2("mdl", f"nnet2{end}") for end in (".mdl", "_mdl.txt", "_output.ark"))}


@pytest.mark.parametrize("name", cases("legacy/nnet1"))
def test_nnet1_round_trip(name: str) -> None:
    binary, text = (LEGACY / "nnet1" / name / f"final.{end}" for end in ("nnet", "txt"))
    from_binary, from_text = read_network(binary), read_network(text)
    assert nnet1_bytes(from_binary) == binary.read_bytes()
    assert nnet1_bytes(from_binary, binary=False) == text.read_bytes()
    assert nnet1_bytes(from_text, binary=False) == text.read_bytes()


@pytest.mark.parametrize("name", NNET2_FILES)
def test_nnet2_round_trip(name: str) -> None:
    binary, text, _ = NNET2_FILES[name]
    from_binary, from_text = parse_nnet2(open_file(binary)), parse_nnet2(open_file(text))
    assert nnet2_bytes(from_binary) == binary.read_bytes()
    assert nnet2_bytes(from_binary, binary=False) == text.read_bytes()
    assert nnet2_bytes(from_text, binary=False) == text.read_bytes()


@pytest.mark.parametrize("name", cases("legacy/nnet1"))
def test_nnet1_reference_computes_what_nnet1_does(name: str) -> None:
    case = LEGACY / "nnet1" / name
    network = read_network(case / "final.nnet")
    for file, place in (("output.ark", -1), ("output_nosoftmax.ark", -2)):
        if (case / file).exists():
            expected, features = table(case / file), table(case / "feats.ark")
            for utterance, rows in expected.items():
                found = forward(network, features[utterance])[place]
                assert relative_error(found, rows) < 3e-6


@pytest.mark.parametrize("name", NNET2_FILES)
def test_nnet2_reference_computes_what_nnet2_does(name: str) -> None:
    binary, _, output = NNET2_FILES[name]
    model = parse_nnet2(open_file(binary))
    features = table(binary.parent / "feats.ark")
    for utterance, rows in table(output).items():
        found = model.forward(features[utterance])[-1]
        found = np.log(found) if model.transition_model is not None else found
        assert relative_error(found, rows) < 3e-6


def shapes(components: Nnet1 | list) -> list[tuple[str, int, int]]:
    return [(c.type_name, c.input_dim, c.output_dim) for c in components]


@pytest.mark.parametrize("name", cases("legacy/nnet1"))
def test_prototypes_make_networks_of_the_same_form(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LEGACY / "nnet1" / name)
    made = build_nnet1(Path("net.proto").read_text(), "net.proto")
    final = read_network("final.nnet")
    assert shapes(made) == shapes(final)
    again = parse_nnet1(open_bytes(nnet1_bytes(made), "made"))
    assert nnet1_bytes(again) == nnet1_bytes(made)
    assert len(nnet1_bytes(made)) == len(nnet1_bytes(final))


@pytest.mark.parametrize("name", cases("legacy/nnet2"))
def test_nnet2_configs_make_networks_of_the_same_form(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LEGACY / "nnet2" / name)
    made = build_nnet2(Path("net.config").read_text(), "net.config")
    final = parse_nnet2(open_file("final.raw"))
    assert shapes(made.components) == shapes(final.components)
    again = parse_nnet2(open_bytes(nnet2_bytes(made), "made"))
    assert nnet2_bytes(again) == nnet2_bytes(made)


def test_initial_parameters_follow_the_prototype() -> None:
    line = "<AffineTransform> <InputDim> 90 <OutputDim> 400 <BiasMean> -1 <BiasRange> 3"
    affine = build_nnet1(f"{line} <ParamStddev> 0.4 <LearnRateCoef> 0.5")[0]
    assert affine.linear.std() == pytest.approx(0.4, rel=0.02)
    assert -2.5 <= affine.bias.min() < -2.4
    assert 0.4 < affine.bias.max() <= 0.5
    assert (affine.learn_rate, affine.bias_learn_rate) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("<Sigmoyd> <InputDim> 3", "nnet1 has no component '<Sigmoyd>'", (1, 1)),
        ("<Sigmoid> <InputDim> 3", "Sigmoid needs '<OutputDim>'", (1, 1)),
        ("\n<Sigmoid> <InputDim> x <OutputDim> 3", "wrong value 'x' for '<InputDim>'", (2, 22)),
        ("<Sigmoid> <InputDim> 3 <OutputDim> 4", "output-dim (=4) must be input-dim (=3)", (1, 1)),
        ("<Sigmoid> <InputDim> 3 <OutputDim> 3 <Foo> 1", "has no key '<Foo>'", (1, 38)),
        ("<Splice> <InputDim> 1 <OutputDim> 3 <BuildVector> 3:1 </BuildVector>", "'3:1'", (1, 51)),
        (
            "<Tanh> <InputDim> 3 <OutputDim> 3\n<Tanh> <InputDim> 4 <OutputDim> 4",
            "Tanh reads 4 columns, the component before it makes 3",
            (2, 1),
        ),
    ],
)
def test_mistakes_in_prototypes(text: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(TextError) as caught:
        build_nnet1(text, "net.proto")
    assert message in str(caught.value)
    assert caught.value.span is not None
    assert (caught.value.span.line, caught.value.span.column) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SigmoydComponent dim=3", "nnet2 has no component 'SigmoydComponent'"),
        ("SpliceComponent input-dim=3", "context (=) must be increasing frame offsets"),
        ("SpliceComponent input-dim=3 context=1:0", "context (=1,0) must be increasing"),
        ("PnormComponent input-dim=7 output-dim=2", "7 is not a multiple of 2"),
        ("TanhComponent dim=3\nTanhComponent dim=4", "reads 4 columns, the component before it"),
    ],
)
def test_mistakes_in_nnet2_configs(text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        build_nnet2(text, "net.config")
    assert message in str(caught.value)


# Files of older versions, and what they are in today's form.

MATRIX = "[ 1 2 \n 3 4 ]\n[ 5 6 ]\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            f"<Nnet> <AffineTransform> 2 2 {MATRIX}</Nnet>",
            f"<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0 {MATRIX}",
        ),
        (
            f"<affinetransform> 2 2 <BiasLearnRateCoef> 3 <LearnRateCoef> 2 {MATRIX}",
            f"<LearnRateCoef> 2 <BiasLearnRateCoef> 3 <MaxNorm> 0 {MATRIX}",
        ),
        ("<Nnet> <Dropout> 2 2 <DropoutRetention> 0.75 </Nnet>", "<DropoutRate> 0.25"),
        ("<Nnet> <AddShift> 2 2 [ 1 2 ] </Nnet>", "<LearnRateCoef> 1 [ 1 2 ]"),
        (
            "<Nnet> <SimpleSentenceAveragingComponent> 2 2 <OnlySumming> 0.0 </Nnet>",
            "<GradientBoost> 100 <Shrinkage> 0 <OnlySumming> F",
        ),
        (
            "<Nnet> <LstmProjectedStreams> 1 1 <CellDim> 1 <ClipGradient> 5 [ 1\n2\n3\n4 ]\n"
            "[ 5\n6\n7\n8 ]\n[ 1 2 3 4 ]\n[ 1 ]\n[ 2 ]\n[ 3 ]\n[ 4 ]\n</Nnet>",
            "<CellDim> 1 <LearnRateCoef> 1 <BiasLearnRateCoef> 1 <CellClip> 50 <DiffClip> 1 "
            "<CellDiffClip> 0 <GradClip> 5",
        ),
    ],
)
def test_old_nnet1_files(old: str, new: str) -> None:
    network = parse_nnet1(open_bytes(old.encode(), "old"))
    assert " ".join(new.split()) in " ".join(nnet1_bytes(network, binary=False).decode().split())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            f"<AffineComponent> <LearningRate> 0.1 <LinearParams> {MATRIX[:14]} <BiasParams> "
            "[ 5 6 ]\n<AvgInput> [ 1 2 ]\n<AvgInputCount> 3 </AffineComponent>",
            "<BiasParams> [ 5 6 ] <IsGradient> F </AffineComponent>",
        ),
        (
            f"<AffineComponentPreconditionedOnline> <LearningRate> 0.1 <LinearParams> {MATRIX[:14]}"
            "<BiasParams> [ 5 6 ]\n<Rank> 7 <NumSamplesHistory> 2000 <Alpha> 4 "
            "<MaxChangePerSample> 0.1 </AffineComponentPreconditionedOnline>",
            "<RankIn> 7 <RankOut> 7 <UpdatePeriod> 1 <NumSamplesHistory> 2000",
        ),
        (
            "<SpliceComponent> <InputDim> 3 <LeftContext> 1 <RightContext> 2 <ConstComponentDim> 0 "
            "</SpliceComponent>",
            "<InputDim> 3 <Context> [ -1 0 1 2 ] <ConstComponentDim> 0",
        ),
        (
            "<DctComponent> <Dim> 6 <DctDim> 3 <Reorder> F </DctComponent>",
            "<Reorder> F <DctKeepDim> 3 </DctComponent>",
        ),
        (
            "<Convolutional1dComponent> <LearningRate> 0.1 <PatchDim> 2 <PatchStep> 1 "
            "<PatchStride> 2 <FilterParams> [ 1 2 ]\n<BiasParams> [ 5 ]\n"
            "</Convolutional1dComponent>",
            "<AppendedConv> F <FilterParams> [ 1 2 ] <BiasParams> [ 5 ] <IsGradient> F",
        ),
    ],
)
def test_old_nnet2_files(old: str, new: str) -> None:
    text = f"<Nnet> <NumComponents> 1 <Components> {old} </Components> </Nnet> "
    model = parse_nnet2(open_bytes(text.encode(), "old"))
    assert isinstance(model, Nnet2Model)
    assert new in " ".join(nnet2_bytes(model, binary=False).decode().split())
