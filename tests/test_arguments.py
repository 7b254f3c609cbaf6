"""Wrong arguments of the public functions: one error that says what was given and expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nnet
from nnet.errors import NnetError

TEXT = """
input dim=4 name=input
relu-layer name=tdnn1 dim=8 input=Append(-1,0,1)
output-layer name=output dim=3
"""
NETWORK = nnet.build(TEXT)
ROWS = torch.zeros(1, 9, 4)
ONE = {"input": ROWS[0]}

Call = Callable[[Any], object]

WRONG: dict[str, tuple[Call, str]] = {
    "float64": (lambda m: m(ROWS.double()), r"float64 of shape \(1, 9, 4\).*computes with float32"),
    "integers": (lambda m: m(ROWS.long()), "int64 .*expected: float32"),
    "no batch": (lambda m: m(ROWS[0]), r"of shape \(9, 4\); expected: \(batch, time, dim\)"),
    "no frames": (lambda m: m(ROWS[:, :0]), "at least one frame"),
    "no sequences": (lambda m: m(ROWS[:0]), "of at least one sequence"),
    "another dimension": (lambda m: m(torch.zeros(1, 9, 5)), r"expected \(batch, 11, 4\)"),
    "an unknown name": (lambda m: m({"inputs": ROWS}), r"no input 'inputs'; .* 'input' \(dim 4\)"),
    "one too many": (lambda m: m({"input": ROWS, "ivector": ROWS}), "no input 'ivector'"),
    "no input": (lambda m: m({}), "'input' is not given"),
    "a list": (lambda m: m([ROWS]), "inputs are a list; expected: features"),
    "a list inside": (lambda m: m({"input": [ROWS]}), "input 'input' is a list"),
    "None": (lambda m: m(None), "inputs are None"),
    "a request": (lambda m: m(ROWS, "output"), "request is a str; expected: an nnet.Request"),
    "no frames asked": (lambda m: m.chunk_request(0), "frames is 0; expected: a positive"),
    "half a frame": (lambda m: m.chunk_request(1.5), "frames is 1.5"),
    "subsampling": (lambda m: m.chunk_request(5, subsampling=0), "subsampling is 0"),
    "no request": (lambda m: m.forward_each([ONE], []), "1 sequences and 0 requests"),
    "traced": (lambda m: torch.jit.trace(lambda x: m(x)["output"], ROWS), r"nnet convert MODEL"),
    "a range": (lambda m: nnet.TimeRange(0, -1), "a range of -1 times"),
    "times": (lambda m: nnet.TimeList(("a", "b")), "must be integers"),
    "load None": (lambda m: nnet.load(None), "source is None; expected: a file's name"),
    "save swapped": (lambda m: nnet.save("net.raw", NETWORK), "model is a str; expected: a Model"),
    "save a module": (lambda m: nnet.save(m, "net.raw"), "module.to_network()"),
    "build a path": (lambda m: nnet.build(Path("net.xconfig")), r"expected: a text; Path\(file\)"),
    "build bytes": (lambda m: nnet.build(TEXT.encode()), "is a bytes; expected: a text"),
    "parse None": (lambda m: nnet.parse_config(None), "is None; expected: a text"),
    "a generator": (lambda m: nnet.build(TEXT, rng="seed"), "rng is a str; expected: numpy"),
    "compile a path": (lambda m: nnet.compile("net.raw"), "model is a str; .*nnet.load"),
    "convert None": (lambda m: nnet.convert(None), "source is None"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(NnetError, match=message):
        call(nnet.compile(NETWORK))


def test_the_only_input_needs_no_name() -> None:
    module = nnet.compile(NETWORK, outputs="output")
    named = module({"input": ROWS})["output"]
    assert torch.equal(module(ROWS)["output"], named)
    assert torch.equal(module(ROWS.double().numpy())["output"], named)
    assert torch.equal(module(np.zeros((1, 9, 4), np.float32))["output"], named)


def test_a_seed_is_a_generator() -> None:
    one, other = (nnet.build(TEXT, rng=rng) for rng in (3, np.random.default_rng(3)))
    for name, component in one.components.items():
        for key, values in component.parameters().items():
            assert np.array_equal(values, other.components[name].parameters()[key])
