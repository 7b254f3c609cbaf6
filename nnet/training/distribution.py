"""Training by several processes: sums over them, and averages of what they trained apart."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nnet.errors import NnetError
from nnet.modules.batchnorm import BatchNorm

MODES = ("sum", "average")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as torchrun starts them; one alone needs no process group.

    Args:
        rank: of this one, from 0.
        count: of all.
        mode: 'sum' adds gradients up in each step, 'average' averages parameters now and then.
        every: minibatches from one average to the next.
    """

    rank: int = 0
    count: int = 1
    mode: str = "sum"
    every: int = 0

    @staticmethod
    def join(mode: str, every: int, device: torch.device) -> Processes:
        """Joins the group that the environment describes (RANK, WORLD_SIZE ...), if there is one.

        Raises:
            NnetError: the mode is unknown, or the other processes cannot be reached.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if mode not in MODES or every < 1:
            raise NnetError(
                f"--distributed is '{mode}', --average-every {every}; expected: one of "
                f"{', '.join(MODES)}, and 1 or more minibatches"
            )
        if count == 1:
            return Processes()
        if not dist.is_initialized():
            try:
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            except (RuntimeError, ValueError) as error:
                raise NnetError(f"cannot join the {count} processes: {error}") from error
        return Processes(dist.get_rank(), count, mode, every)

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.rank == 0

    def share(self, batches: list[Any]) -> list[Any]:
        """This process's part of an epoch; all get equally many, so a few may be left out."""
        return batches[self.rank : len(batches) - len(batches) % self.count : self.count]

    def sums(self) -> bool:
        """Whether gradients are added up."""
        return self.count > 1 and self.mode == "sum"

    def averages(self) -> bool:
        """Whether parameters are averaged now and then, and differ in between."""
        return self.count > 1 and self.mode == "average"

    def gather(self, state: Any) -> list[Any]:
        """What each process gives, in the leading one; nothing in the others.

        Args:
            state: anything that can be pickled, its tensors on the CPU.
        """
        if self.count == 1:
            return [state]
        states: list[Any] | None = [None] * self.count if self.leads else None
        with lost_process():
            dist.gather_object(state, states)
        return states or []

    def scatter(self, states: list[Any]) -> Any:
        """For each process its own of what the leading one gives; the others give nothing."""
        if self.count == 1:
            return states[0]
        received = [None]
        with lost_process():
            dist.scatter_object_list(received, states if self.leads else None)
        return received[0]

    def after_step(self, step: int, module: nn.Module) -> None:
        """Averages parameters when that is due."""
        if self.averages() and step % self.every == 0:
            average_over_processes(module)


@contextmanager
def lost_process() -> Iterator[None]:
    """Turns the loss of another process into an error for the user."""
    try:
        yield
    except RuntimeError as error:
        raise NnetError(
            "another process of this run is lost; start them all again with --resume\n"
            f"{str(error).splitlines()[0]}"
        ) from error


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors by their sums over all processes, those of one type in one message.

    Args:
        tensors: on the device that the process group works with, alike in all processes.
    """
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        chosen = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = torch.cat([tensor.reshape(-1) for tensor in chosen])
        with lost_process():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in chosen])
        for tensor, part in zip(chosen, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def average_over_processes(module: nn.Module) -> None:
    """Averages the parameters of all processes, as Kaldi does with those of its jobs.

    Batch-norm statistics are put together, each process's weighted by its count.
    """
    processes = dist.get_world_size()
    parameters = list(module.parameters())
    sum_over_processes(parameters)
    for parameter in parameters:
        parameter.div_(processes)
    norms = [m for m in module.modules() if isinstance(m, BatchNorm)]
    moments = [(m, m.stats_mean * m.count, _square(m) * m.count, m.count.clone()) for m in norms]
    sum_over_processes([tensor for _, *sums in moments for tensor in sums])
    for norm, total, square, count in moments:
        rows = count.clamp_min(1e-10)
        norm.stats_mean.copy_(total / rows)
        norm.stats_var.copy_((square / rows - norm.stats_mean.square()).clamp_min(0))
        norm.count.copy_(count / processes)


@torch.no_grad()
def take_best(module: nn.Module, objective: float) -> None:
    """Gives all processes the parameters and statistics of the one with the largest objective."""
    found: list[float | None] = [None] * dist.get_world_size()
    with lost_process():
        dist.all_gather_object(found, objective)
        best = max(range(len(found)), key=lambda rank: _or_least(found[rank]))
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor, src=best)


def _or_least(objective: float | None) -> float:
    """The objective, or what is below all others if it is not finite."""
    return objective if objective is not None and math.isfinite(objective) else -math.inf


def _square(norm: BatchNorm) -> Tensor:
    return norm.stats_var + norm.stats_mean.square()
