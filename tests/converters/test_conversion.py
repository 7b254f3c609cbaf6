"""Networks of nnet1 and nnet2 as networks of nnet3: the same outputs, rates, priors, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.components.affine import Linear, NaturalGradientAffine
from nnet.components.fixed import FixedAffine, FixedScale
from nnet.components.nonlinearity import LogSoftmax, Sigmoid
from nnet.components.reshape import SumGroup
from nnet.converters.checking import part_errors
from nnet.converters.convert import Converted, ConvertOptions, convert_legacy
from nnet.converters.nnet1.base import nnet1_types
from nnet.converters.nnet1.layers import NNET1
from nnet.converters.nnet2.base import nnet2_types
from nnet.converters.nnet2.layers import NNET2
from nnet.converters.report import report
from nnet.errors import NnetError
from nnet.inference.chunks import ChunkedInference, Utterance
from nnet.inference.options import ChunkOptions
from nnet.modelfile.loading import open_file
from nnet.modelfile.model import Model, model_bytes, read_model
from nnet.modelfile.transitions import read_transition_model
from nnet.runtime.compiled import compile_network
from nnet.text.write import write_descriptor
from tests.support import GOLDEN, cases, relative_error, table

LEGACY = GOLDEN / "legacy"
FILES = {
    **{f"nnet1/{name}": LEGACY / "nnet1" / name / "final.nnet" for name in cases("legacy/nnet1")},
    **{f"nnet2/{name}": LEGACY / "nnet2" / name / "final.raw" for name in cases("legacy/nnet2")},
}


def convert(text: str, **options: object) -> Converted:
    return convert_legacy(text.encode(), ConvertOptions(**options))


def outputs(model: Model, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `nnet compute --frames-per-chunk=100000` gives."""
    module = compile_network(model.network, test_mode=True)
    inference = ChunkedInference(module, ChunkOptions(frames_per_chunk=100_000))
    return dict(inference.run(Utterance(name, rows) for name, rows in features.items()))


@pytest.mark.parametrize("name", FILES)
def test_every_part_computes_what_its_source_does(name: str) -> None:
    assert max(part_errors(convert_legacy(FILES[name]))) < 1e-13


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_the_legacy_programs(name: str) -> None:
    # one golden case has columns in an i-vector's place that change with time
    converted = convert_legacy(FILES[name], ConvertOptions(ivector_input=False))
    content = model_bytes(converted.model)
    model = read_model(content)
    assert model_bytes(model) == content
    case = FILES[name].parent
    found = outputs(model, table(case / "feats.ark"))
    for utterance, expected in table(case / "output.ark").items():
        assert relative_error(found[utterance], expected) < 1e-5


def test_every_component_type_has_a_conversion() -> None:
    assert NNET1.keys() == nnet1_types().keys()
    assert NNET2.keys() == nnet2_types().keys()


def test_nnet2_acoustic_models_put_out_log_posteriors() -> None:
    converted = convert_legacy(LEGACY / "mdl/nnet2.mdl")
    assert converted.logarithm
    assert converted.model.is_acoustic
    found = outputs(converted.model, table(LEGACY / "mdl/feats.ark"))
    for utterance, expected in table(LEGACY / "mdl/nnet2_output.ark").items():
        assert relative_error(found[utterance], expected) < 1e-5


def test_priors_of_nnet2_carry_over(tmp_path: Path) -> None:
    data = (LEGACY / "mdl/nnet2.mdl").read_bytes()
    priors = np.arange(1, 10, dtype=np.float32) / 45
    empty = b"FV \4\0\0\0\0"
    assert data.endswith(empty)
    changed = data[: -len(empty)] + b"FV \4\x09\0\0\0" + priors.tobytes()
    converted = convert_legacy(changed)
    assert converted.model.priors is not None
    assert (converted.model.priors == priors).all()


def test_feature_transform_counts_and_transition_model(tmp_path: Path) -> None:
    transform = tmp_path / "final.feature_transform"
    transform.write_text(
        "<Nnet> <Splice> 9 3 [ -1 0 1 ]\n<!EndOfComponent> <Rescale> 9 9 <LearnRateCoef> 0 "
        " [ 1 2 3 4 5 6 7 8 9 ]\n<!EndOfComponent> </Nnet> "
    )
    counts = tmp_path / "counts"
    counts.write_text(" [ 10 20 0 30 40 50 60 70 80 ]\n")
    converted = convert(
        "<AffineTransform> <InputDim> 9 <OutputDim> 9\n<Softmax> <InputDim> 9 <OutputDim> 9\n",
        feature_transform=transform,
        class_frame_counts=counts,
        transition_model=LEGACY / "mdl/nnet2.mdl",
    )
    model = converted.model
    components = list(model.network.components.values())
    assert isinstance(components[0], FixedScale)
    assert isinstance(components[-1], LogSoftmax)
    assert [part.source for part in converted.parts] == [
        "1 Splice", "2 Rescale", "3 AffineTransform", "4 Softmax"
    ]  # fmt: skip
    expected = read_transition_model(open_file(LEGACY / "mdl/nnet2.mdl"))
    assert model.transition_model is not None
    assert model.transition_model.tuples == expected.tuples
    assert model.priors is not None
    assert model.priors[1] == pytest.approx(20 / 360)
    assert np.log(model.priors[2]) > 88  # a pdf without frames is never recognised
    assert max(part_errors(converted)) < 1e-13


def test_learning_rates_are_factors_of_nnet3s_default() -> None:
    converted = convert(
        "<AffineTransform> <InputDim> 3 <OutputDim> 4 <LearnRateCoef> 0.5 <BiasLearnRateCoef> 2\n"
        "<AffineTransform> <InputDim> 4 <OutputDim> 4 <LearnRateCoef> 3 <BiasLearnRateCoef> 3\n"
    )
    components = converted.model.network.components
    assert list(components) == ["affine1.linear", "affine1", "affine2"]
    assert isinstance(components["affine1.linear"], Linear)
    factors = [c.learning_rate_factor for c in components.values()]
    assert factors == [0.5, 2.0, 3.0]
    assert components["affine2"].learning_rate == pytest.approx(0.003)


def test_settings_of_nnet2_carry_over() -> None:
    converted = convert_legacy(FILES["nnet2/pnorm"])
    affine = converted.model.network.components["affine1"]
    assert isinstance(affine, NaturalGradientAffine)
    assert (affine.rank_in, affine.rank_out, affine.update_period) == (10, 15, 4)
    assert affine.num_samples_history == 2000
    assert affine.learning_rate == pytest.approx(0.02)
    assert affine.max_change == pytest.approx(0.75)


def test_statistics_of_nnet2_carry_over() -> None:
    text = (
        "<Nnet> <NumComponents> 1 <Components> <SigmoidComponent> <Dim> 2 <ValueSum>  [ 5 2 ]\n"
        "<DerivSum>  [ 1 2 ]\n<Count> 10 </SigmoidComponent> </Components> </Nnet> "
    )
    sigmoid = convert(text).model.network.components["sigmoid1"]
    assert isinstance(sigmoid, Sigmoid)
    np.testing.assert_allclose(sigmoid.value_avg, [0.5, 0.2])
    np.testing.assert_allclose(sigmoid.deriv_avg, [0.1, 0.2], rtol=1e-6)
    assert sigmoid.nonlinearity_count == 10


def test_old_component_types_of_very_old_nnet1_files() -> None:
    converted = convert("<affinetransform> 1 2 [ 3 4 ]\n[ 5 ]\n<sigmoid> 1 1 ")
    assert list(converted.model.network.components) == ["affine1", "sigmoid1"]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0])
def test_powers(power: float) -> None:
    converted = convert(f"PowerComponent dim=3 power={power}")
    assert max(part_errors(converted)) < 1e-13
    assert bool(converted.own_components) == (power in (0.0, 0.5, 2.5))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 1.5])
def test_norms(p: float) -> None:
    converted = convert(f"PnormComponent input-dim=6 output-dim=2 p={p}")
    assert max(part_errors(converted)) < 1e-6  # 1/p is stored in 32 bits
    assert bool(converted.own_components) == (p not in (1.0, 2.0))


def test_what_kaldi_cannot_load_is_refused_on_demand() -> None:
    text = "PowerComponent dim=3 power=2.5\nPnormComponent input-dim=3 output-dim=1 p=3"
    assert "not loadable by Kaldi: power1 (PowerComponent)" in report(convert(text))
    with pytest.raises(NnetError, match=r"parts: power1 \(PowerComponent\), pnorm1"):
        convert(text, kaldi_compatible=True)


def test_logarithms_of_summed_posteriors() -> None:
    text = "SoftmaxComponent dim=4\nSumGroupComponent sizes=1:3"
    converted = convert(text, log_softmax=True)
    assert [type(c) for c in converted.model.network.components.values()][1] is SumGroup
    assert converted.own_components == ["log (LogComponent)"]
    assert max(part_errors(converted)) < 1e-13


def test_pools_with_gaps_between_them() -> None:
    text = (
        "<MaxPoolingComponent> <InputDim> 10 <OutputDim> 4 <PoolSize> 2 <PoolStep> 3 "
        "<PoolStride> 2\n"
    )
    assert max(part_errors(convert(text))) < 1e-13


TWO_SPLICES = (
    "<Splice> <InputDim> 2 <OutputDim> 6 <BuildVector> -1:1 </BuildVector>\n"
    "<AffineTransform> <InputDim> 6 <OutputDim> 3\n"
    "<Splice> <InputDim> 3 <OutputDim> 9 <BuildVector> -2:2:2 </BuildVector>\n"
)


def test_splices_of_splices_agree_away_from_the_edges() -> None:
    converted = convert(TWO_SPLICES)
    assert converted.edges_differ
    assert "nnet1 repeats the edge frames of this layer" in report(converted)
    assert max(part_errors(converted)) < 1e-13


def test_splices_of_splices_can_be_clamped() -> None:
    converted = convert(TWO_SPLICES, clamp_splices=True)
    assert not converted.edges_differ
    assert max(part_errors(converted)) < 1e-13


def test_cells_are_clipped_exactly() -> None:
    text = "<LstmProjected> <InputDim> 3 <OutputDim> 2 <CellDim> 4 <ParamRange> 3 <CellClip> 0.5\n"
    assert max(part_errors(convert(text))) < 1e-13


def test_hidden_markov_models_are_refused() -> None:
    text = "<Nnet> <KlHmm> 2 3  [\n  1 2 3 \n  4 5 6 ]\n<!EndOfComponent> </Nnet> "
    with pytest.raises(NnetError, match="component 1 KlHmm: KlHmm is no layer of a network"):
        convert(text)


def test_dims_of_a_feature_transform_must_fit(tmp_path: Path) -> None:
    transform = tmp_path / "t"
    transform.write_text("<Nnet> <AddShift> 3 3 [ 1 2 3 ]\n</Nnet>")
    with pytest.raises(NnetError, match="makes 3 columns, the network reads 2"):
        convert("<Sigmoid> <InputDim> 2 <OutputDim> 2", feature_transform=transform)


def test_counts_need_a_transition_model(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match="--class-frame-counts needs --transition-model"):
        convert("<Sigmoid> <InputDim> 2 <OutputDim> 2", class_frame_counts=tmp_path / "none")


def test_report_names_the_nodes_of_each_part() -> None:
    converted = convert_legacy(FILES["nnet1/dnn_sigmoid"])
    lines = report(converted, part_errors(converted)).splitlines()
    assert lines[0].split() == ["source", "component", "nodes", "parameters", "error"]
    assert lines[2].split()[:5] == ["1", "Splice", "(in", "a", "descriptor)"]
    assert lines[5].split()[:4] == ["4", "AffineTransform", "affine1", "3030"]
    assert lines[-1] == "loadable by Kaldi"


def test_a_fixed_matrix_is_not_trained() -> None:
    network = convert_legacy(FILES["nnet1/average_pooling"]).model.network
    assert isinstance(network.components["averagepool1"], FixedAffine)


AVERAGE = "<SimpleSentenceAveragingComponent> 2 2 <GradientBoost> 1"


@pytest.mark.parametrize(
    "text",
    [
        f"{AVERAGE} <Shrinkage> 0 <OnlySumming> F",
        f"{AVERAGE} <Shrinkage> 7.5 <OnlySumming> F",
        f"{AVERAGE} <Shrinkage> 0 <OnlySumming> T",
        "<SentenceAveragingComponent> 3 2 <Nnet> <AffineTransform> 1 2 [ 1 -2 ]\n[ 3 ]\n</Nnet>",
    ],
)
def test_averages_over_sentences(text: str) -> None:
    converted = convert(f"<Nnet> {text} <!EndOfComponent> </Nnet> ")
    assert converted.whole_utterances
    assert max(part_errors(converted)) < 1e-6  # the logarithm of the shrinkage has 32 bits
    found = outputs(converted.model, {"a": np.float32([[1, 2], [3, 5], [-4, 0]])})["a"]
    expected = converted.source.outputs(np.array([[1.0, 2], [3, 5], [-4, 0]]))[-1]
    assert relative_error(found, expected) < 1e-5


def test_bases_are_identities_by_default(tmp_path: Path) -> None:
    selector = tmp_path / "selector.proto"
    selector.write_text(
        "<AffineTransform> <InputDim> 2 <OutputDim> 3\n<Softmax> <InputDim> 3 <OutputDim> 3\n"
    )
    converted = convert(
        f"<MultiBasisComponent> <InputDim> 6 <OutputDim> 4 <SelectorProto> {selector}\n"
    )
    rows = np.random.default_rng(0).standard_normal((5, 6))
    np.testing.assert_allclose(converted.source.outputs(rows)[-1], rows[:, :4])
    assert max(part_errors(converted, rows)) < 1e-13


@pytest.mark.parametrize("hidden", ["bern", "gauss"])
def test_boltzmann_machines(hidden: str) -> None:
    converted = convert(
        f"<Rbm> <InputDim> 3 <OutputDim> 2 <VisibleType> gauss <HiddenType> {hidden} "
        "<HiddenBiasRange> 1 <ParamStddev> 1\n"
    )
    assert max(part_errors(converted)) < 1e-13
    assert len(converted.model.network.components) == (2 if hidden == "bern" else 1)


def test_networks_inside_networks() -> None:
    inner = "<Nnet> <Splice> 4 2 [ 0 1 ]\n<!EndOfComponent> </Nnet>"
    text = (
        f"<Nnet> <ParallelComponent> 7 5 <NestedNnetCount> 2 <NestedNnet> 1 <Nnet> "
        f"<ParallelComponent> 4 2 <NestedNnetCount> 1 <NestedNnet> 1 {inner} "
        "</ParallelComponent> <!EndOfComponent> </Nnet> <NestedNnet> 2 <Nnet> <Tanh> 3 3 "
        "<!EndOfComponent> </Nnet> </ParallelComponent> <!EndOfComponent> </Nnet> "
    )
    converted = convert(text)
    assert max(part_errors(converted)) < 1e-13
    assert "parallel1.net2.tanh1" in converted.model.network.nodes


def test_noise_becomes_its_mean() -> None:
    converted = convert("AdditiveNoiseComponent dim=3 stddev=0.5")
    assert max(part_errors(converted)) < 1e-13
    assert "instead of noise, its mean (0.25) is added" in report(converted)


def test_the_missing_floor_of_logarithms_is_reported() -> None:
    found = report(convert("LogSoftmaxComponent dim=3"))
    assert "nnet2 raises logarithms below log(1e-20) = -46.1 to that" in found


def test_convolutions_whose_patches_do_not_cover_all_columns() -> None:
    for appended in ("true", "false"):
        converted = convert(
            "Convolutional1dComponent input-dim=14 output-dim=6 patch-dim=2 patch-step=2 "
            f"patch-stride=7 appended-conv={appended}"
        )
        assert max(part_errors(converted)) < 1e-13


@pytest.mark.parametrize(
    "text",
    [
        "<RecurrentComponent> <InputDim> 2 <OutputDim> 3 <ParamScale> 1\n"
        "<Splice> <InputDim> 3 <OutputDim> 9 <BuildVector> -2 0 1 </BuildVector>\n",
        "<Splice> <InputDim> 2 <OutputDim> 4 <BuildVector> -1 1 </BuildVector>\n"
        "<SimpleSentenceAveragingComponent> <InputDim> 4 <OutputDim> 4\n"
        "<Splice> <InputDim> 4 <OutputDim> 8 <BuildVector> 0 2 </BuildVector>\n",
    ],
)
def test_no_repeated_frame_is_seen_where_all_frames_count(text: str) -> None:
    converted = convert(text)
    assert converted.whole_utterances
    assert max(part_errors(converted)) < 1e-13
    rows = np.random.default_rng(1).standard_normal((9, 2)).astype(np.float32)
    found = outputs(converted.model, {"a": rows})["a"]
    assert relative_error(found, converted.source.outputs(rows.astype(float))[-1]) < 1e-5


def test_feature_transforms_are_not_trained(tmp_path: Path) -> None:
    transform = tmp_path / "t.proto"
    transform.write_text("<RecurrentComponent> <InputDim> 2 <OutputDim> 3\n")
    network = convert(
        "<Sigmoid> <InputDim> 3 <OutputDim> 3\n", feature_transform=transform
    ).model.network
    rates = [getattr(c, "learning_rate", 0.0) for c in network.components.values()]
    assert rates == [0.0] * len(rates)


ONLINE = b"""SpliceComponent input-dim=9 left-context=2 right-context=2 const-component-dim=4
AffineComponent input-dim=29 output-dim=8 learning-rate=0.04 param-stddev=0.3 bias-stddev=0.5
SoftmaxComponent dim=8
"""


def test_the_constant_columns_of_an_online_model_become_an_ivector_input() -> None:
    converted = convert_legacy(ONLINE)
    network = converted.model.network
    assert {node.name: node.dim for node in network.inputs()} == {"input": 5, "ivector": 4}
    affine = next(node for node in network.nodes.values() if node.name == "affine1")
    assert write_descriptor(affine.input).endswith("ReplaceIndex(ivector, t, 0))")
    assert max(part_errors(converted)) < 1e-5
    assert "the last 4 columns of the features are an input of their own, 'ivector'" in report(
        converted
    )
    whole = convert_legacy(ONLINE, ConvertOptions(ivector_input=False)).model.network
    assert [node.dim for node in whole.inputs()] == [9]
