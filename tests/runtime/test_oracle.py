"""The oracle against float64 computations written out by hand with numpy."""

import numpy as np
import pytest
import torch

from nnet.errors import NnetError
from nnet.plan.request import Request, TimeRange
from nnet.runtime.oracle import interpret
from tests.support import golden_network, network_from

TIMES = TimeRange(-4, 13)


def run(network, wanted, frames, ivector=None):
    inputs = {"input": torch.from_numpy(frames)[None]}
    times = {"input": TIMES}
    if ivector is not None:
        inputs["ivector"] = torch.from_numpy(ivector)[None, None]
        times["ivector"] = TimeRange(0, 1)
    request = Request.of(times, {"output": wanted})
    return interpret(network, request, inputs)["output"][0].numpy()


def wide(array):
    return array.astype(np.float64)


def test_a_factored_layer_by_hand():
    network = golden_network("nets/tdnnf_lda")
    spec = network.components
    rng = np.random.default_rng(0)
    frames, ivector = rng.normal(size=(13, 20)), rng.normal(size=10)
    times = np.arange(-3, 8)  # those with a neighbour on both sides
    at = {t: frames[t - TIMES.start] for t in range(-4, 9)}

    def batchnorm(name, rows):
        bn = spec[name]
        scale = bn.target_rms / np.sqrt(wide(bn.stats_var) + bn.epsilon)
        return (rows - wide(bn.stats_mean)) * scale

    spliced = np.stack([np.concatenate((at[t - 1], at[t], at[t + 1], ivector)) for t in times])
    lda = spliced @ wide(spec["lda"].linear).T + wide(spec["lda"].bias)
    affine = spec["tdnn1.affine"]
    tdnn1 = np.maximum(lda @ wide(affine.linear).T + wide(affine.bias), 0)
    tdnn1 = batchnorm("tdnn1.batchnorm", tdnn1)
    linear = np.concatenate((tdnn1[:-1], tdnn1[1:]), axis=1) @ wide(spec["tdnnf2.linear"].linear).T
    affine = spec["tdnnf2.affine"]
    hidden = np.concatenate((linear[:-1], linear[1:]), axis=1) @ wide(affine.linear).T
    hidden = batchnorm("tdnnf2.batchnorm", np.maximum(hidden + wide(affine.bias), 0))
    expected = hidden + 0.66 * tdnn1[1:-1]

    text = "output-node name=output input=tdnnf2.noop"
    cut = _with_output(network, text)
    result = run(cut, TimeRange(-2, 9), frames, ivector)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def _with_output(network, line):
    from nnet.graph.build import build_network
    from nnet.text.parse import parse_config

    return build_network(parse_config(line), network, rng=np.random.default_rng(0))


def test_every_descriptor_by_hand():
    network = network_from("""
    input-node name=input dim=2
    dim-range-node name=second input-node=input dim-offset=1 dim=1
    output-node name=output input=Append(Offset(input, -1), Sum(Scale(2, input), Const(0.5, 2)), \
Round(second, 3), Switch(second, Offset(second, 1)), ReplaceIndex(second, t, 2), \
Failover(Offset(second, 7), Scale(-1, second)), IfDefined(Offset(second, 6)))
    """)
    frames = np.random.default_rng(1).normal(size=(13, 2))
    at = {t: frames[t - TIMES.start] for t in range(-4, 9)}
    rows = []
    for t in range(-3, 8):
        last = at[t + 6][1] if t + 6 in at else 0.0
        over = at[t + 7][1] if t + 7 in at else -at[t][1]
        switched = at[t][1] if t % 2 == 0 else at[t + 1][1]
        rounded = at[3 * (t // 3)][1]
        row = [*at[t - 1], *(2 * at[t] + 0.5), rounded, switched, at[2][1], over, last]
        rows.append(row)
    result = run(network, TimeRange(-3, 11), frames)
    np.testing.assert_allclose(result, np.array(rows), rtol=1e-12, atol=1e-12)


def test_what_cannot_be_computed_is_refused():
    network = network_from(
        "input-node name=input dim=2\noutput-node name=output input=Offset(input, 3)"
    )
    with pytest.raises(NnetError, match="output 'output' cannot be computed at t = 6"):
        run(network, TimeRange(0, 9), np.zeros((13, 2)))
