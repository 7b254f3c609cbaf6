"""Two processes on one machine, with gloo."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from nnet.data.example_set import ExampleSet
from nnet.data.merging import MergingRules
from nnet.errors import NnetError
from nnet.graph.build import build_network
from nnet.graph.network import Network
from nnet.modelfile.model import Model, read_model, write_model
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.text.parse import parse_config
from nnet.training.distribution import (
    Processes,
    average_over_processes,
    sum_over_processes,
)
from nnet.training.feeds.examples import ExampleFeed, Slot
from nnet.training.natural_gradient.optimizer import NaturalGradientSGD
from tests.processes import preload

preload("tests.training.test_distribution")

CONFIG = """
input-node name=input dim=5
component name=a type=TdnnComponent time-offsets=-1,0,1 input-dim=5 output-dim=8 \
learning-rate=0.01 max-change=0.75 l2-regularize=0.01
component-node name=a component=a input=input
component name=relu type=TanhComponent dim=8
component-node name=relu component=relu input=a
{norm}
component name=out type=NaturalGradientAffineComponent input-dim=8 output-dim=4
component-node name=out component=out input={last}
component name=sm type=LogSoftmaxComponent dim=4
component-node name=sm component=sm input=out
output-node name=output input=sm
"""
NORM = """
component name=bn type=BatchNormComponent dim=8
component-node name=bn component=bn input=relu
"""


def network(norm: bool) -> Network:
    text = CONFIG.format(norm=NORM if norm else "", last="bn" if norm else "relu")
    return build_network(parse_config(text), rng=np.random.default_rng(1))


def part_of_minibatch(number: int, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    features = torch.randn(8, 14, 5, generator=generator)
    return features[part], features[part, 1:-1, :4].argmax(-1)


def train(module: CompiledNetwork, optimizer: NaturalGradientSGD, part: slice, every: int) -> float:
    for number in range(24):
        features, targets = part_of_minibatch(number, part)
        optimizer.zero_grad()
        outputs = module({"input": features}, module.chunk_request(12))["output"]
        loss = torch.nn.functional.nll_loss(outputs.mT, targets, reduction="sum")
        loss.backward()
        optimizer.step(sequences=len(features))
        if every and (number + 1) % every == 0:
            average_over_processes(module)
    return loss.item() / targets.numel()


def in_two_processes(function: Callable[..., None], *arguments: object) -> None:
    """Calls function(rank, *arguments) in processes that have imported torch before."""
    start_processes(function, arguments, nprocs=2, start_method="forkserver")


def work(rank: int, folder: str, mode: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    module = compile_network(network(norm=mode == "average")).train()
    optimizer = NaturalGradientSGD(module)
    if mode == "sum":
        optimizer.reduce = sum_over_processes
    train(module, optimizer, slice(4 * rank, 4 * rank + 4), 6 if mode == "average" else 0)
    write_model(Model(module.to_network()), f"{folder}/{rank}.raw")
    dist.destroy_process_group()


def trained(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    in_two_processes(work, str(folder), mode)
    networks = [read_model(folder / f"{rank}.raw").network for rank in range(2)]
    return [
        {f"{n}.{k}": a for n, c in net.components.items() for k, a in c.parameters().items()}
        for net in networks
    ]


def test_two_processes_in_step_train_as_one_with_the_whole_minibatch(tmp_path: Path) -> None:
    first, second = trained(tmp_path, "sum")
    module = compile_network(network(norm=False)).train()
    train(module, NaturalGradientSGD(module), slice(None), 0)
    initial = network(norm=False)
    for name, wanted in (
        (f"{n}.{k}", a)
        for n, c in module.to_network().components.items()
        for k, a in c.parameters().items()
    ):
        np.testing.assert_array_equal(first[name], second[name])
        component, key = name.split(".")
        change = np.linalg.norm(wanted - getattr(initial.components[component], key))
        assert np.linalg.norm(first[name] - wanted) < 1e-3 * change


def test_processes_that_average_agree_and_learn(tmp_path: Path) -> None:
    first, second = trained(tmp_path, "average")
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    module = compile_network(read_model(tmp_path / "0.raw").network).eval()
    features, targets = part_of_minibatch(99, slice(None))
    with torch.no_grad():
        outputs = module({"input": features}, module.chunk_request(12))["output"]
    start = torch.nn.functional.nll_loss(outputs.mT, targets).item()
    assert start < 1.2


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def train_in_process(rank: int, folder: str, port: int, arguments: dict[str, object]) -> None:
    from nnet.training.feeds.tables import Archives
    from nnet.training.options import TrainingOptions
    from nnet.training.session import train as run_training

    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    given = dict(arguments)
    room = given.pop("room_of_first", None)
    if room is not None and rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
    resume = bool(given.pop("resume", False))
    options = TrainingOptions(
        optimizer="natural-gradient",
        num_epochs=int(given.pop("num_epochs", 4)),
        initial_effective_lrate=0.01,
        tensorboard=False,
        **given,
    )
    golden = Path(__file__).parents[1] / "golden/training/frame_level"
    egs = f"ark:{golden}/egs_compressed_unmerged.ark"
    data = Archives((egs,), f"ark:{golden}/egs.ark", "8,1:4", 100)
    run_training(read_model(golden / "plain/init.raw"), Path(folder) / "out", data, options, resume)
    dist.destroy_process_group()


def validations(folder: Path) -> list[float]:
    lines = (folder / "out/train.jsonl").read_text().splitlines()
    return [e["objective"] for e in map(json.loads, lines) if e["event"] == "validation"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "options",
    [
        {"distributed": "sum", "num_epochs": 2},
        {"distributed": "average", "average_every": 3, "num_epochs": 2},
    ],
)
def test_a_run_of_two_processes_learns_and_is_resumed(
    options: dict[str, object], tmp_path: Path
) -> None:
    port = free_port()
    in_two_processes(train_in_process, str(tmp_path), port, options)
    found = validations(tmp_path)
    assert len(found) == 2
    assert found[-1] > found[0] > -2.2
    before = (tmp_path / "out/final.raw").read_bytes()
    in_two_processes(train_in_process, str(tmp_path), port, {**options, "resume": True})
    assert (tmp_path / "out/final.raw").read_bytes() == before


def test_processes_share_the_examples_of_an_epoch() -> None:
    golden = Path(__file__).parents[1] / "golden/training/frame_level"
    network = read_model(golden / "plain/init.raw").network
    data = ExampleSet([f"ark:{golden}/egs.ark"], MergingRules.parse("1"), 100, seed=3)
    feed = ExampleFeed(data, network, torch.device("cpu"))

    def seen(slots: list[Slot]) -> list[bytes]:
        with feed.minibatches(slots) as minibatches:
            return [minibatch.inputs["input"].numpy().tobytes() for minibatch in minibatches]

    epoch = feed.epoch(0)
    everything = seen(epoch)
    first, second = (seen(Processes(rank, 2).share(epoch)) for rank in range(2))
    assert first == everything[::2]
    assert second == everything[1::2]
    assert seen(Processes(1, 2).share(epoch)[5:]) == second[5:]


def survive(rank: int, folder: str, port: int, arguments: dict[str, object]) -> None:
    """Trains; an error becomes a file."""
    try:
        train_in_process(rank, folder, port, arguments)
    except NnetError as error:
        (Path(folder) / f"error.{rank}").write_text(str(error))


@pytest.mark.parametrize(("mode", "killed"), [("sum", 1), ("average", 1), ("sum", 0)])
def test_a_killed_process_ends_the_run_and_resume_goes_on(
    mode: str, killed: int, tmp_path: Path
) -> None:
    options = {"distributed": mode, "average_every": 3, "checkpoint_every": 2, "num_epochs": 2}
    context = multiprocessing.get_context("forkserver")
    arguments = (str(tmp_path), free_port(), options)
    processes = [context.Process(target=survive, args=(r, *arguments)) for r in range(2)]
    for process in processes:
        process.start()
    while not list(tmp_path.glob("out/checkpoints/*.safetensors")) and processes[0].is_alive():
        time.sleep(0.02)
    processes[killed].kill()
    left = 1 - killed
    processes[left].join(60)
    assert not processes[left].is_alive()
    lost = (tmp_path / f"error.{left}").read_text()
    assert lost.startswith("another process of this run is lost; start them all again")
    assert not (tmp_path / "out/final.raw").exists()
    again = {**options, "resume": True}
    in_two_processes(train_in_process, str(tmp_path), free_port(), again)
    whole = tmp_path / "whole"
    whole.mkdir()
    in_two_processes(train_in_process, str(whole), free_port(), options)
    resumed, unbroken = ((folder / "out/final.raw").read_bytes() for folder in (tmp_path, whole))
    assert resumed == unbroken
    assert validations(tmp_path) == validations(whole)
    assert validations(whole)[-1] > validations(whole)[0]


def test_a_full_disk_of_one_process_ends_the_run_and_resume_goes_on(tmp_path: Path) -> None:
    options = {"checkpoint_every": 2, "num_epochs": 2}
    in_two_processes(survive, str(tmp_path), free_port(), {**options, "room_of_first": 9000})
    assert "cannot write: File too large" in (tmp_path / "error.0").read_text()
    assert (tmp_path / "error.1").read_text().startswith("another process of this run is lost")
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == []
    again = {**options, "resume": True}
    in_two_processes(train_in_process, str(tmp_path), free_port(), again)
    whole = tmp_path / "whole"
    whole.mkdir()
    in_two_processes(train_in_process, str(whole), free_port(), options)
    resumed, unbroken = ((folder / "out/final.raw").read_bytes() for folder in (tmp_path, whole))
    assert resumed == unbroken
    assert validations(tmp_path) == validations(whole)
