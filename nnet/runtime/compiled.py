"""A network as a `torch.nn.Module`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nnet.arguments import check_argument, described
from nnet.errors import NnetError
from nnet.graph.context import context
from nnet.graph.network import Network
from nnet.kernels.affine.packed import has_bf16_units
from nnet.modelfile.model import Model
from nnet.modules.base import ComponentModule
from nnet.modules.batchnorm import BatchNorm
from nnet.modules.dropout import RandomModule
from nnet.modules.registry import make_module
from nnet.modules.statistics import StatisticsModule
from nnet.passes.base import Pass
from nnet.passes.end_to_end import EndToEnd
from nnet.passes.planning import plan_network
from nnet.plan.implementations import Kernels
from nnet.plan.implementations import kernels as known_kernels
from nnet.plan.ir import Plan
from nnet.plan.reach import period, total_reach
from nnet.plan.request import Joined, Request, chunk_request
from nnet.runtime.arguments import Inputs, check_sizes, named_inputs
from nnet.runtime.choosing import abilities_here
from nnet.runtime.cuda_graph import CapturedGraphs, check_cuda_graph
from nnet.runtime.device import check_bf16, machine_here
from nnet.runtime.executor import Executor
from nnet.runtime.executors import Executors
from nnet.runtime.logits import Output, finished, outputs_of
from nnet.runtime.memory import HALF, LOSSLESS, HalvedMemory, check_compression_level
from nnet.runtime.operator import OneOperator, key_of, through_operator
from nnet.runtime.tiled_run import TiledRun


def compile_network(
    model: Network | Model,
    *,
    test_mode: bool = False,
    outputs: Iterable[str] | None = None,
    passes: Iterable[Pass] | None = None,
    kernels: str = "auto",
    cuda_graph: bool = False,
    bf16: bool = False,
    memory_compression_level: int = LOSSLESS,
    log_likelihoods: Iterable[str] = (),
) -> CompiledNetwork:
    """The network as a module that takes and gives `(batch, time, dim)` tensors by name.

    Args:
        model: the network to compile, or a model that has it.
        test_mode: use the stored batch-norm statistics and no dropout, and fold all that becomes
            constant into the affine components. Nothing is trainable then.
        outputs: names of the outputs wanted; all by default.
        passes: the passes to run instead of the usual ones.
        kernels: `reference` for plain torch and nothing else, `native` for our C++ on a CPU
            wherever it is legal, `triton` for our kernels of a GPU wherever there is one (in
            Triton's interpreter where there is no CUDA device, slowly), `auto` for the fastest by
            the table `nnet.plan.implementations`.
        cuda_graph: launch the network as one CUDA graph for each request and batch size; in test
            mode, without gradients.
        bf16: in test mode, compute matrix products in bfloat16; results stay float32. On a CPU
            those of affine transforms alone, on its matrix units, where what rounding leaves is
            multiplied too.
        memory_compression_level: nnet3's option; 2 keeps what only the derivative needs in 16 bits,
            0 and 1 keep it as it is.
        log_likelihoods: outputs that are trained by the log-likelihood of targets; their
            log-softmax is left to the objective (see `CompiledNetwork.outputs`).

    Raises:
        NnetError: the network has a component that cannot be run, or has batch-norm without
            statistics and `test_mode` is asked for; `kernels` are unknown; a CUDA graph is asked
            for where there can be none.
    """
    check_argument(
        model, (Network, Model), "model", "a Network or a Model; nnet.load(path) reads one"
    )
    network = model.network if isinstance(model, Model) else model
    outputs = (outputs,) if isinstance(outputs, str) else outputs
    asked = known_kernels(kernels)
    if cuda_graph:
        check_cuda_graph(test_mode=test_mode)
    if bf16:
        check_bf16()
        if not (torch.cuda.is_available() or has_bf16_units()):
            raise NnetError(
                "bf16 in test mode needs a CPU with matrix units for bfloat16 (AMX) and a C++ "
                "compiler, or a CUDA device; leave out --bf16"
            )
        if not test_mode:
            raise NnetError("bf16 is for test mode; to train so, use torch.autocast or --bf16")
    plan = plan_network(
        network,
        machine_here(),
        abilities=abilities_here(),
        asked=asked,
        test_mode=test_mode,
        outputs=outputs,
        log_likelihoods=tuple(log_likelihoods),
        passes=None if passes is None else tuple(passes),
    )
    module = CompiledNetwork(
        network, plan, exact=not test_mode, kernels=asked, cuda_graph=cuda_graph
    )
    module.bf16 = bf16
    module.memory_compression_level = check_compression_level(memory_compression_level)
    return module


class CompiledNetwork(OneOperator):
    """Runs a plan. Parameters are named by component (`.` in a component's name becomes `/`).

    `module.train()` uses minibatch statistics in batch-norm and accumulates nnet3's stored
    statistics; `module.eval()` uses the stored ones and switches dropout off.
    """

    memory_compression_level = LOSSLESS

    def __init__(
        self,
        network: Network,
        plan: Plan,
        *,
        exact: bool = True,
        kernels: Kernels = "auto",
        cuda_graph: bool = False,
    ) -> None:
        super().__init__()
        self._exact = exact
        self._kernels = kernels
        self._graphs = CapturedGraphs(self._run) if cuda_graph else None
        self.network = network
        self.plan = plan
        self.components = nn.ModuleDict(
            {_key(name): make_module(spec) for name, spec in plan.components.items()}
        )
        self._executors = Executors(plan, kernels, exact=exact)
        self._operator_key = key_of(self)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: executors and graphs are made of this network's own modules."""
        state = self.__dict__.copy()
        for name in ("_executors", "_graphs", "_tiled", "_operator_key"):
            state.pop(name, None)
        return {**state, "_cuda_graph": self._graphs is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        cuda_graph = state.pop("_cuda_graph")
        super().__setstate__(state)
        self._executors = Executors(self.plan, self._kernels, exact=self._exact)
        self._graphs = CapturedGraphs(self._run) if cuda_graph else None
        self._operator_key = key_of(self)

    @cached_property
    def _context(self) -> tuple[int, int]:
        return context(self.network)

    @property
    def left_context(self) -> int:
        """Input frames that the network needs before an output frame."""
        return self._context[0]

    @property
    def right_context(self) -> int:
        """Input frames that the network needs after an output frame."""
        return self._context[1]

    @cached_property
    def _tiled(self) -> TiledRun:
        return TiledRun(self.plan, *self._context, self._run, self._executors.layout)

    def chunk_request(
        self,
        frames: int,
        *,
        subsampling: int = 1,
        outputs: tuple[str, ...] | None = None,
        extra: tuple[int, int] = (0, 0),
    ) -> Request:
        """The request for `frames` frames with the network's own context (see plan.request).

        Args:
            extra: frames more to the left and right, for recurrences.
        """
        return chunk_request(
            self.network,
            frames,
            left_context=self.left_context + extra[0],
            right_context=self.right_context + extra[1],
            subsampling=subsampling,
            outputs=outputs if outputs is not None else tuple(n for n, _ in self.plan.results),
        )

    def forward(self, inputs: Inputs, request: Request | None = None) -> dict[str, Tensor]:
        """Outputs by name, `(batch, time, dim)`.

        Args:
            inputs: by name, `(batch, time, dim)`; rows are at the request's times. Of a network
                with one input, its rows alone will do.
            request: which times are given and wanted. Without one, `input` is a whole utterance:
                every frame is wanted, and beyond its edges the first and last frame are repeated,
                as nnet3-compute does; other inputs are given at time 0.

        Raises:
            NnetError: an input is missing or has a wrong shape, or the request needs frames that
                are not given.
        """
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            return through_operator(self, self._operator_key, inputs, request)
        outputs = self.outputs(inputs, request)
        return {name: finished(output) for name, output in outputs.items()}

    def outputs(self, inputs: Inputs, request: Request | None = None) -> Mapping[str, Output]:
        """The outputs as `forward` gives them, but `Logits` where the log-softmax is left to the
        objective."""
        inputs = named_inputs(self.network, inputs, self._dtype)
        if torch._C._get_tracing_state() is not None:
            raise NnetError(
                "TorchScript cannot record native code; torch.export can: nnet convert MODEL "
                "OUT.pt2 --to torch-export"
            )
        if request is None:
            inputs, request = self._whole_utterance(inputs)
        else:
            check_argument(request, Request, "request", "an nnet.Request, or None for an utterance")
        self._check(inputs, request)
        self._follow()
        if self._graphs is not None and not torch.is_grad_enabled():
            return self._graphs(inputs, request)
        if self.in_tiles(inputs.values(), torch.is_grad_enabled()):
            return self._tiled(inputs, request)
        executor, rows = self._executor(request, inputs)
        return outputs_of(executor, self._run_by(executor, rows))

    def forward_each(
        self, inputs: Sequence[Mapping[str, Tensor]], requests: Sequence[Request]
    ) -> list[dict[str, Tensor]]:
        """Sequences that each have their own request, computed together.

        All rows are one minibatch (batch-norm sees them all), and nothing is computed that no
        request needs.

        Args:
            inputs: for each sequence, by name, `(time, dim)`; rows at its own request's times.

        Returns:
            For each sequence, by output name, `(time, dim)`.

        Raises:
            NnetError: an input is missing or has a wrong shape, or a request needs frames that are
                not given.
        """
        if len(inputs) != len(requests) or not requests:
            raise NnetError(
                f"there are {len(inputs)} sequences and {len(requests)} requests; expected: one "
                "request for each, and at least one"
            )
        inputs = [named_inputs(self.network, given, self._dtype) for given in inputs]
        for given, request in zip(inputs, requests, strict=True):
            self._check({name: tensor.unsqueeze(0) for name, tensor in given.items()}, request)
        joined = Joined.of(requests, period(self.plan), total_reach(self.plan))
        names = [name for name, _ in joined.request.inputs]
        rows = {
            name: torch.cat([given[name] for given in inputs if name in given]).unsqueeze(1)
            for name in names
        }
        plan = EndToEnd(joined.spacing, joined.origin).run(self.plan)
        self._follow()
        executor = self._executors.make(plan, joined.request, rows)
        with self._memory(rows):
            by_name = executor.run(rows)
        by_name = {name: result.transpose(0, 1) for name, result in by_name.items()}
        results = {n: finished(output) for n, output in outputs_of(executor, by_name).items()}
        split: list[dict[str, Tensor]] = [{} for _ in requests]
        for name, result in results.items():
            first = 0
            for outputs, request in zip(split, requests, strict=True):
                times = dict(request.outputs).get(name)
                if times is not None:
                    outputs[name] = result[0, first : first + times.count]
                    first += times.count
        return split

    def _run(
        self,
        inputs: Mapping[str, Tensor],
        request: Request,
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        executor, rows = self._executor(request, inputs)
        return self._run_by(executor, rows, into)

    def _executor(
        self, request: Request, inputs: Mapping[str, Tensor]
    ) -> tuple[Executor, dict[str, Tensor]]:
        """What carries out a request, and the rows (time, batch, dim) of inputs."""
        rows = {name: tensor.transpose(0, 1).contiguous() for name, tensor in inputs.items()}
        with self._products(rows):
            return self._executors(request, rows), rows

    def _run_by(
        self,
        executor: Executor,
        rows: Mapping[str, Tensor],
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        targets = {name: tensor.transpose(0, 1) for name, tensor in (into or {}).items()}
        with self._memory(rows), self._products(rows):
            results = executor.run(rows, targets, self._on_units(rows))
        if self.bf16:
            results = {name: result.float() for name, result in results.items()}
        return {name: result.transpose(0, 1) for name, result in results.items()}

    def _products(self, rows: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        """What matrix products are computed with."""
        if not self.bf16 or (self._kernels != "triton" and self._on_cpu(rows)):
            return nullcontext()
        return torch.autocast(next(iter(rows.values())).device.type, torch.bfloat16)

    def _on_units(self, rows: Mapping[str, Tensor]) -> bool:
        """Whether a CPU's matrix units for bfloat16 are used."""
        return self.bf16 and self._on_cpu(rows) and has_bf16_units()

    def _memory(self, rows: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """How autograd keeps what the derivative needs."""
        if self.memory_compression_level < HALF or not torch.is_grad_enabled():
            return nullcontext()
        return HalvedMemory([*self.parameters(), *self.buffers(), *rows.values()])

    def in_tiles(self, inputs: Iterable[Tensor], gradient: bool) -> bool:
        """Whether inputs are computed in tiles that fit the cache."""
        return not (self._exact or gradient) and all(x.device.type == "cpu" for x in inputs)

    @staticmethod
    def _on_cpu(inputs: Mapping[str, Tensor]) -> bool:
        return all(tensor.device.type == "cpu" for tensor in inputs.values())

    def _whole_utterance(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Request]:
        features = inputs.get("input")
        if features is None:
            raise NnetError("input 'input' is not given; expected: (batch, time, dim)")
        if features.dim() != 3:
            raise NnetError(f"input 'input' is {described(features)}; expected: (batch, time, dim)")
        check_sizes(inputs)
        left = features[:, :1].expand(-1, self.left_context, -1)
        right = features[:, -1:].expand(-1, self.right_context, -1)
        padded = torch.cat((left, features, right), dim=1)
        return {**inputs, "input": padded}, self.chunk_request(features.shape[1])

    def _follow(self) -> None:
        """Lets go of what was made of components that are others now."""
        changed = self._executors.follow(self.components)
        if changed and self._graphs is not None:
            self._graphs.clear()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        if self._graphs is not None:
            self._graphs.clear()
        return super()._apply(*args, **kwargs)

    @property
    def _dtype(self) -> torch.dtype | None:
        """What parameters are, or matrices in test mode; None if there are none."""
        for module in self.components._modules.values():
            assert module is not None
            for tensor in (*module._parameters.values(), module._buffers.get("linear")):
                if tensor is not None:
                    return tensor.dtype
        return None

    def _component(self, name: str) -> ComponentModule:
        module = self.components[_key(name)]
        assert isinstance(module, ComponentModule)
        return module

    def _check(self, inputs: Mapping[str, Tensor], request: Request) -> None:
        times = dict(request.inputs)
        for node in self.network.inputs():
            if node.name not in times:
                continue
            tensor = inputs.get(node.name)
            if tensor is None:
                raise NnetError(f"input '{node.name}' (dim {node.dim}) is not given")
            expected = (times[node.name].count, node.dim)
            if tensor.dim() != 3 or tuple(tensor.shape[1:]) != expected:
                raise NnetError(
                    f"input '{node.name}' has shape {tuple(tensor.shape)}, "
                    f"expected (batch, {expected[0]}, {expected[1]})"
                )

    def zero_stats(self) -> None:
        """Forgets the statistics that components stored so far (nnet3's ZeroComponentStats)."""
        for module in self.modules():
            if isinstance(module, BatchNorm | StatisticsModule):
                module.zero_stats()

    def set_dropout_proportions(self, proportions: Mapping[str, float]) -> None:
        """Sets the dropout proportions of dropout components by name."""
        for name, proportion in proportions.items():
            module = self._component(name)
            if isinstance(module, RandomModule):
                module.proportion = proportion

    def set_dropout_proportion(self, proportion: float) -> None:
        """Sets the dropout proportion of every dropout component."""
        for module in self.modules():
            if isinstance(module, RandomModule):
                module.proportion = proportion

    def to_network(self) -> Network:
        """The network with this module's present parameters and statistics."""
        components = dict(self.network.components)
        for name in self.plan.components:
            if name in components:
                components[name] = self._component(name).to_spec()
        return dataclasses.replace(self.network, components=components)


def _key(component: str) -> str:
    return component.replace(".", "/")
