"""The recipes in configs/: what their headers say is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import nnet
from nnet.commands.compile import compile
from nnet.components.normalize import BatchNorm
from nnet.graph.context import context
from nnet.graph.dims import node_dim
from nnet.graph.network import Network
from nnet.modelfile.networks import config_network
from nnet.passes.base import run_passes
from nnet.passes.pipeline import TEST
from nnet.plan.cost import plan_cost
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.plan.request import Request, TimeRange
from nnet.text.parse import parse_xconfig
from nnet.xconfig import Expansion, expand
from nnet.xconfig.checking import mistakes
from nnet.xconfig.texts import config_texts

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.xconfig"))
HEADER = ["task", "size", "context", "cost", "use"]
SEGMENTS = {"resnet_image": 32, "xvector": 300}
"""Frames for one output at time 0; the other recipes have an output for each frame or third one."""


def header(path: Path) -> dict[str, str]:
    """The fields of the comment at the top."""
    top = path.read_text().split("\n\n")[0]
    return dict(re.findall(r"^# (\w+) {2,}(.*)$", top, re.MULTILINE))


def expansion(path: Path) -> Expansion:
    return expand(parse_xconfig(path.read_text(), path.name))


def structure(path: Path) -> Network:
    """The recipe's network, its parameters constants."""
    expanded = expansion(path)
    return config_network(expanded.final, None, None, expanded)


def test_there_is_one_of_each_family() -> None:
    assert {path.stem for path in CONFIGS} >= {
        *("dnn", "tdnn", "tdnnf_small", "tdnnf_1536", "cnn_tdnnf", "tdnn_lstm", "blstm"),
        *("tdnn_opgru", "attention", "xvector", "resnet_image", "denoising_autoencoder"),
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_is_explained_and_expanded(path: Path) -> None:
    assert mistakes(path.read_text(), path.name) == []
    assert "final.config" in config_texts(expansion(path))
    fields = header(path)
    assert [name for name in fields if name in HEADER] == HEADER
    assert f"configs/{path.name}" in fields["use"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_size_and_context_are_as_the_header_says(path: Path) -> None:
    network = structure(path)
    size = sum(component.num_parameters for component in network.components.values()) / 1e6
    assert header(path)["size"].startswith(f"{size:.1f} M parameters with ")
    left, right = context(network)
    if left == right:
        assert header(path)["context"] == f"{left} frames to each side"
    else:
        assert header(path)["context"] == f"{left} frames to the left, {right} to the right"


def trained(path: Path) -> Network:
    """The recipe's network with statistics in its batch-norm components, as training leaves."""
    network = structure(path)
    for component in network.components.values():
        if isinstance(component, BatchNorm):
            component.count = 1.0
            component.stats_mean = np.zeros(component.block_dim, np.float32)
            component.stats_var = np.ones(component.block_dim, np.float32)
    return network


def stated_cost(path: Path) -> float:
    """GFLOP, as the header says."""
    stated = re.match(r"([0-9.]+) GFLOP ", header(path)["cost"])
    assert stated is not None
    return float(stated.group(1))


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if path.stem not in SEGMENTS], ids=lambda path: path.stem
)
def test_cost_is_as_nnet_compile_reports_it(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "model.raw")
    nnet.save(trained(path), model)
    subsampling = 3 if header(path)["task"].startswith("chain: ") else 1
    compile(model, frame_subsampling_factor=subsampling, output_name="output")
    reported = re.search(r"([0-9.]+) GFLOP per second of speech", capsys.readouterr().out)
    assert reported is not None
    assert stated_cost(path) == pytest.approx(float(reported.group(1)), rel=0.02)


@pytest.mark.parametrize(("name", "frames"), SEGMENTS.items())
def test_cost_of_one_output(name: str, frames: int) -> None:
    (path,) = (path for path in CONFIGS if path.stem == name)
    plan = run_passes(lower(trained(path), ["output"]), TEST)
    request = Request.of({"input": TimeRange(0, frames)}, {"output": TimeRange(0, 1)})
    cost = plan_cost(plan, bind(plan, request, exact=False)).flops / 1e9
    seconds = 1 if header(path)["cost"].endswith(" an image") else frames / 100
    assert stated_cost(path) == pytest.approx(cost / seconds, rel=0.02)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_is_initialised_and_run(path: Path) -> None:
    network = nnet.build(path.read_text(), path.name, rng=np.random.default_rng(0))
    inputs = {"input": torch.randn(2, 20, node_dim(network, "input"))}
    if "ivector" in network.nodes:
        inputs["ivector"] = torch.randn(2, 1, node_dim(network, "ivector"))
    outputs = nnet.compile(network)(inputs)
    for name, rows in outputs.items():
        dim = re.search(rf"name={name} .*dim=(\d+)", path.read_text())
        assert dim is not None
        assert rows.shape == (2, 20, int(dim.group(1)))
        assert torch.isfinite(rows).all()
