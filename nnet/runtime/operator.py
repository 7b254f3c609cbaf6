"""A compiled network as one operator, `torch.ops.nnet.network`: all that `torch.compile` sees.

Dynamo and AOTAutograd take the operator for one node of their graph. Nothing of the plan, its
executors or its kernels is traced, so nothing there can break the graph, and what runs inside is
what runs without `torch.compile`: the same implementations on the module as it then is, with its
mode, statistics, dropout and the observers of natural gradient. Shapes of results follow from the
arguments, so batches and utterances may be of symbolic size.

The operator runs the network with a graph of autograd's own and keeps that under a number. The
number is its last result; a program keeps it for the backward pass, and with it the graph goes.
Parameters are arguments so that torch knows whose gradients the backward pass gives: one that the
outputs do not depend on gets zeros. As with other compiled programs there is no second derivative,
nor a second backward pass (`retain_graph=True`).
"""

from __future__ import annotations

import itertools
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import DispatchKey

from nnet.graph.network import Network
from nnet.kernels.native import constant_while_tracing
from nnet.plan.ir import Plan
from nnet.plan.request import Request
from nnet.runtime.arguments import Inputs, named_inputs
from nnet.runtime.logits import Output, finished
from nnet.runtime.request_numbers import counts_of, numbers_of, request_of


class OneOperator(nn.Module):
    """A network that `torch.compile` takes for one operator: what the operator asks of it."""

    network: Network
    plan: Plan
    bf16 = False

    def outputs(self, inputs: Inputs, request: Request | None = None) -> Mapping[str, Output]:
        """Outputs (batch, time, dim) by name, for inputs and a request as `forward` takes them."""
        raise NotImplementedError

    def in_tiles(self, inputs: Iterable[Tensor], gradient: bool) -> bool:
        """Whether inputs are computed in tiles that fit the cache."""
        raise NotImplementedError


NETWORKS: weakref.WeakValueDictionary[str, OneOperator] = weakref.WeakValueDictionary()
"""By their keys."""

_PLACES = itertools.count()


def key_of(network: OneOperator) -> str:
    """A new key by which the operator knows a network as long as it lives.

    No other process has it: programs that torch keeps on disk are never another network's.
    """
    key = uuid.uuid4().hex
    NETWORKS[key] = network
    return key


def _network_at(place: str) -> OneOperator:
    return NETWORKS[place.partition(" ")[0]]


@constant_while_tracing
def _new_place() -> str:
    """What no other call in a program has: torch would make one of two equal calls, but they have
    different dropout, and statistics count both."""
    return str(next(_PLACES))


def through_operator(
    network: OneOperator, key: str, inputs: Inputs, request: Request | None
) -> dict[str, Tensor]:
    """The forward method of a network as `torch.compile` traces it.

    Arguments are checked when the program runs.
    """
    if isinstance(inputs, dict) and all(isinstance(rows, Tensor) for rows in inputs.values()):
        given = inputs  # the usual case, with the fewest conditions that each call has to meet
    else:
        given = named_inputs(network.network, inputs, None)
    wanted = [name for name, _ in (request.outputs if request else network.plan.results)]
    asked = [name for name, _ in request.inputs] if request else []
    gradient = torch.is_grad_enabled()
    rows = list(given.values())
    device = rows[0].device.type
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
    results = torch.ops.nnet.network(
        rows,
        [p for p in network.parameters() if p.requires_grad] if gradient else [],
        f"{key} {_new_place()}",
        "\n".join(" ".join(names) for names in (given, asked, wanted)),
        numbers_of(request),
        [gradient and x.requires_grad for x in rows],
        gradient,
        autocast,
    )
    return dict(zip(wanted, results, strict=False))  # the last one is the run's number


@dataclass(frozen=True)
class _Names:
    """Of the inputs that are given, and of a request's inputs and outputs."""

    given: list[str]
    asked: list[str]
    wanted: list[str]

    @classmethod
    def of(cls, names: str) -> _Names:
        return cls(*(line.split() for line in names.split("\n")))


@dataclass(frozen=True, eq=False)
class _Run:
    """Outputs with their graph, and what there are gradients for."""

    outputs: Sequence[Tensor]
    leaves: Sequence[Tensor]


_RUNS: dict[int, _Run] = {}
_NUMBERS = itertools.count(1)


def _keep(run: _Run) -> Tensor:
    """The number under which a run is kept, as a tensor; the run goes when its memory does."""
    number = next(_NUMBERS)
    memory = np.array([number])  # torch holds it as long as any tensor of it is there
    _RUNS[number] = run
    weakref.finalize(memory, _RUNS.pop, number, None).atexit = False
    return torch.from_numpy(memory)


def _forward(
    inputs: list[Tensor],
    parameters: list[Tensor],
    place: str,
    names: str,
    times: list[int],
    needed: list[bool],
    gradient: bool,
    autocast: str,
) -> list[Tensor]:
    """The outputs (batch, time, dim), and the number of the run.

    Args:
        inputs: (batch, time, dim), each.
        parameters: those that are trained, of a network that runs with a gradient.
        place: the network's key, and the place of the call.
        names: see `_Names`.
        times: see `nnet.runtime.request_numbers`.
        needed: for each input, whether there is to be a gradient for it.
        gradient: whether autograd was on where the network was called.
        autocast: the type of torch's autocast there, '' without.
    """
    network, known = _network_at(place), _Names.of(names)
    rows = [x.detach().requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
    given = dict(zip(known.given, rows, strict=True))
    request = request_of(times, known.asked, known.wanted)
    with _with_autograd(), torch.set_grad_enabled(gradient), _autocast(inputs, autocast):
        outputs, leaves = _outputs(network, parameters, given, request)
    wanted = [outputs[name] for name in known.wanted]
    run = torch.zeros(1, dtype=torch.int64)
    if any(result.requires_grad for result in wanted):
        run = _keep(_Run(wanted, [x for x in (*rows, *leaves) if x.requires_grad]))
    dtype = _dtype(network, inputs, gradient, autocast)
    return [*_separate([x.detach().to(dtype) for x in wanted], inputs), run]


def _outputs(
    network: OneOperator,
    parameters: Sequence[Tensor],
    given: Mapping[str, Tensor],
    request: Request | None,
) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
    """The outputs, and for which tensors the gradients for parameters are to be asked.

    Those are the network's own parameters, unless others take their place
    (`torch.func.functional_call`) or one of its own has hooks: torch calls them for the gradient
    that the operator gives.
    """
    own = _trained(network)
    pairs = list(zip(parameters, own.values(), strict=bool(parameters)))
    if all(p.data_ptr() == mine.data_ptr() and not mine._backward_hooks for p, mine in pairs):
        return _called(network, given, request), [mine for _, mine in pairs]
    others = [p.detach().requires_grad_() for p in parameters]
    named = {f"network.{name}": other for name, other in zip(own, others, strict=True)}
    return torch.func.functional_call(_Called(network), named, (given, request)), others


def _called(
    network: OneOperator, given: Mapping[str, Tensor], request: Request | None
) -> dict[str, Tensor]:
    """What the network's forward method gives; hooks of the whole network are the program's."""
    return {name: finished(output) for name, output in network.outputs(given, request).items()}


class _Called(nn.Module):
    """`_called` as a module, whose parameters torch can replace."""

    def __init__(self, network: OneOperator) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Mapping[str, Tensor], request: Request | None) -> dict[str, Tensor]:
        return _called(self.network, given, request)


def _trained(network: OneOperator) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def _dtype(
    network: OneOperator, inputs: Sequence[Tensor], gradient: bool, autocast: str
) -> torch.dtype:
    """The type of outputs, as it has to be known before they are."""
    if not autocast or network.bf16 or network.in_tiles(inputs, gradient):
        return inputs[0].dtype
    return _type(autocast)


def _type(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name.removeprefix("torch."))
    return dtype


def _autocast(inputs: Sequence[Tensor], dtype: str) -> AbstractContextManager[object]:
    """Autocast as it was where the program was traced; programs run without."""
    return torch.autocast(inputs[0].device.type, _type(dtype)) if dtype else nullcontext()


def _separate(tensors: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """The same with adjacent elements, each in memory of its own, as results of operators are."""
    seen = {x.untyped_storage().data_ptr() for x in others}
    separate = []
    for tensor in tensors:
        result = tensor.contiguous()
        if result.untyped_storage().data_ptr() in seen:
            result = result.clone()
        seen.add(result.untyped_storage().data_ptr())
        separate.append(result)
    return separate


@contextmanager
def _with_autograd() -> Iterator[None]:
    """Autograd inside an operator, where torch leaves it out."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in (
        DispatchKey.AutogradFunctionality,
        DispatchKey.AutogradOther,
        DispatchKey.AutogradNestedTensor,
    ):
        excluded = excluded.remove(key)
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded):
        yield


def _forward_fake(
    inputs: list[Tensor],
    parameters: list[Tensor],
    place: str,
    names: str,
    times: list[int],
    needed: list[bool],
    gradient: bool,
    autocast: str,
) -> list[Tensor]:
    """Empty outputs. Wrong arguments are let pass; they are told of at the run."""
    network, known = _network_at(place), _Names.of(names)
    features = dict(zip(known.given, inputs, strict=True)).get("input", inputs[0])
    frames = features.shape[1] if features.dim() > 1 else 1
    counts = counts_of(times, known.asked, known.wanted, frames)
    dims = {name: network.plan.dim(value) for name, value in network.plan.results}
    dtype = _dtype(network, inputs, gradient, autocast)
    outputs = [
        inputs[0].new_empty((inputs[0].shape[0], count, dims.get(name, 1)), dtype=dtype)
        for name, count in zip(known.wanted, counts, strict=True)
    ]
    return [*outputs, torch.empty(1, dtype=torch.int64, device="cpu")]


def _backward(
    gradients: list[Tensor], run: Tensor, inputs: list[Tensor], place: str
) -> list[Tensor]:
    """The gradients for inputs that need them, and for the trained parameters."""
    kept = _RUNS.pop(int(run), None)
    if kept is None:
        raise RuntimeError(
            "the backward pass of this network was run already; with torch.compile there can be "
            "no second one"
        )
    pairs = zip(kept.outputs, gradients, strict=True)
    outputs, given = zip(*((x, g.to(x.dtype)) for x, g in pairs if x.requires_grad), strict=True)
    with _with_autograd():
        derivatives = torch.autograd.grad(outputs, kept.leaves, given, materialize_grads=True)
    return _separate(derivatives, gradients)


def _backward_fake(
    gradients: list[Tensor], run: Tensor, inputs: list[Tensor], place: str
) -> list[Tensor]:
    trained = _trained(_network_at(place)).values()
    of_inputs = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
    return [*of_inputs, *(torch.empty(p.shape, dtype=p.dtype, device=p.device) for p in trained)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    rows, _, ctx.place, _, _, ctx.needed, *_ = inputs
    wanted = [x for x, need in zip(rows, ctx.needed, strict=True) if need]
    ctx.save_for_backward(output[-1], *wanted)


def _derivative(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    run, *inputs = ctx.saved_tensors
    derivatives = iter(torch.ops.nnet.network_backward(gradients[:-1], run, inputs, ctx.place))
    of_inputs = [next(derivatives) if need else None for need in ctx.needed]
    return of_inputs, list(derivatives), None, None, None, None, None, None


_LIBRARY = torch.library.Library("nnet", "FRAGMENT")
_TAGS = (torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe)


def _register(schema: str, kernel: Any, fake: Any) -> None:
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=_TAGS)
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"nnet::{name}", fake, lib=_LIBRARY)


_register(
    "network(Tensor[] inputs, Tensor[] parameters, str place, str names, SymInt[] times, "
    "bool[] needed, bool gradient, str autocast) -> Tensor[]",
    _forward,
    _forward_fake,
)
_register(
    "network_backward(Tensor[] gradients, Tensor run, Tensor[] inputs, str place) -> Tensor[]",
    _backward,
    _backward_fake,
)
torch.library.register_autograd("nnet::network", _derivative, setup_context=_setup, lib=_LIBRARY)
