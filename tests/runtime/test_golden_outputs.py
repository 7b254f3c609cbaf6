"""Outputs of golden models, computed chunk by chunk, are Kaldi's."""

import pytest

from nnet.graph.context import context
from nnet.inference.chunks import ChunkedInference
from nnet.inference.options import ChunkOptions
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.runtime.oracle import interpret
from tests.support import (
    COMPONENT_OUTPUTS,
    GOLDEN,
    cases,
    last_model,
    outputs_of_net,
    relative_error,
    table,
    utterances,
)

COMPONENT_LIMIT = 1e-5
NET_LIMIT = 1e-4
BF16_LIMIT = 1e-3


def worst_error(folder: str, case: str, output: str, options: ChunkOptions, **compile_options):
    path = GOLDEN / folder / case
    module = compile_network(
        read_model(last_model(path)).network, outputs=("output",), **compile_options
    ).eval()
    expected = table(path / output)
    results = dict(ChunkedInference(module, options).run(utterances(path)))
    assert results.keys() == expected.keys()
    return max(relative_error(rows, expected[name]) for name, rows in results.items())


class Interpreted:
    """The oracle in place of a compiled network."""

    def __init__(self, network):
        self.network = network
        self.left_context, self.right_context = context(network)

    def buffers(self):
        return iter(())

    def __call__(self, inputs, request):
        return interpret(self.network, request, inputs)


def oracle_error(folder: str, case: str, output: str, options: ChunkOptions, count: int):
    path = GOLDEN / folder / case
    network = read_model(last_model(path)).network
    some = utterances(path)[:count]
    results = dict(ChunkedInference(Interpreted(network), options).run(some))
    expected = table(path / output)
    return max(relative_error(rows, expected[name]) for name, rows in results.items())


@pytest.mark.parametrize("output", COMPONENT_OUTPUTS)
@pytest.mark.parametrize("case", cases("components"))
def test_the_oracle_on_a_component(case, output):
    options = COMPONENT_OUTPUTS[output]
    assert oracle_error("components", case, output, options, 2) < COMPONENT_LIMIT


@pytest.mark.parametrize("case", [c for c in cases("nets", "output.ark") if c != "xvector"])
def test_the_oracle_on_a_net(case):
    output, options = next(iter(outputs_of_net(GOLDEN / "nets" / case)))
    assert oracle_error("nets", case, output, options, 1) < NET_LIMIT


@pytest.mark.parametrize("test_mode", [True, False], ids=["folded", "plain"])
@pytest.mark.parametrize("output", COMPONENT_OUTPUTS)
@pytest.mark.parametrize("case", cases("components"))
def test_component(case, output, test_mode):
    options = COMPONENT_OUTPUTS[output]
    assert worst_error("components", case, output, options, test_mode=test_mode) < COMPONENT_LIMIT


@pytest.mark.parametrize("test_mode", [True, False], ids=["folded", "plain"])
@pytest.mark.parametrize(
    ("case", "output", "options"),
    [
        (case, output, options)
        for case in cases("nets", "output_whole.ark")
        for output, options in outputs_of_net(GOLDEN / "nets" / case)
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_net(case, output, options, test_mode):
    assert worst_error("nets", case, output, options, test_mode=test_mode) < NET_LIMIT


@pytest.mark.parametrize("case", cases("nets", "output_whole.ark"))
def test_a_net_in_bf16(case):
    path = GOLDEN / "nets" / case
    network = read_model(last_model(path)).network
    module = compile_network(network, test_mode=True, outputs=("output",)).eval()
    module.bf16 = True  # on any processor: without units for it, it is float32
    options = dict(outputs_of_net(path))["output_whole.ark"]
    expected = table(path / "output_whole.ark")
    for name, rows in ChunkedInference(module, options).run(utterances(path)):
        assert relative_error(rows, expected[name]) < BF16_LIMIT
