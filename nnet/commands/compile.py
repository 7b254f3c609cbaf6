"""`nnet compile`: the plan of a model, before and after each pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.data.options import FRAME_SUBSAMPLING_FACTOR
from nnet.options import Option
from nnet.runtime.options import KERNELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnet.plan.implementations import Abilities, Choice
    from nnet.plan.ir import Plan
    from nnet.plan.machine import Machine
    from nnet.plan.request import Request


def compile(
    model: Annotated[str, Argument(help="Model file, .raw or .mdl.")],
    dump: Annotated[bool, Option("Print the plan before and after each pass.")] = False,
    frames: Annotated[int, Option("Frames of the request.", least=1)] = 150,
    frame_subsampling_factor: Annotated[int, FRAME_SUBSAMPLING_FACTOR] = 1,
    frames_per_second: Annotated[float, Option("For the cost per second of speech.")] = 100.0,
    batch: Annotated[int, Option("Sequences in a minibatch.", least=1)] = 1,
    training: Annotated[bool, Option("The plan for training, not for test mode.")] = False,
    output_name: Annotated[str, Option("Which output node; all by default.")] = "",
    machine: Annotated[str, Option("What it is planned for: cpu, sm_80 or sm_90.")] = "cpu",
    kernels: Annotated[str, KERNELS] = "auto",
) -> None:
    """Plans a network for a request and says what it costs.

    For every operation: arithmetic and memory traffic, what bounds its speed on the machine
    (arithmetic, memory or launch), and which implementation runs: plain torch (reference), with the
    reason where a faster one was not legal, our C++ (native) or our kernel on a GPU (triton).

    Example: nnet compile final.mdl --dump --frames 150 --frame-subsampling-factor 3
    """
    from nnet.graph.context import context
    from nnet.kernels.native_choice import chosen
    from nnet.modelfile.model import read_model
    from nnet.passes.planning import plan_network
    from nnet.plan.dump import dump as dumped
    from nnet.plan.implementations import Situation, choose
    from nnet.plan.implementations import kernels as known_kernels
    from nnet.plan.layout import bind
    from nnet.plan.machine import machine as known_machine
    from nnet.plan.request import chunk_request

    target, asked = known_machine(machine), known_kernels(kernels)
    network = read_model(model).network
    abilities = _abilities(target)
    left, right = context(network)
    start = time.perf_counter()

    def show(name: str, step: Plan) -> None:
        if dump:
            print(f"--- {name}: {len(step.operations)} values\n{dumped(step)}\n")

    trained = [node for node in network.outputs() if training and node.objective == "linear"]
    plan = plan_network(
        network,
        target,
        abilities=abilities,
        asked=asked,
        test_mode=not training,
        outputs=[output_name] if output_name else None,
        log_likelihoods=tuple(node.name for node in trained),
        watch=show,
    )
    request = chunk_request(
        network,
        frames,
        left_context=left,
        right_context=right,
        subsampling=frame_subsampling_factor,
        outputs=tuple(name for name, _ in plan.results),
    )
    layout = bind(plan, request, exact=training)
    situation = Situation(
        device="cuda" if target.is_gpu else "cpu",
        gradient=training,
        batch=batch,
        abilities=abilities,
    )
    choices = choose(plan, layout, target, asked=asked, situation=situation)
    seconds = time.perf_counter() - start
    print(f"--- plan for {_described(request, batch)}\n{dumped(plan, layout, choices)}\n")
    _print_cost(choices.values(), batch * frames / frames_per_second, target.name)
    if not target.is_gpu:
        print(f"native code: {chosen()}")
    if not dump:
        print(f"planned in {1000 * seconds:.1f} ms; left context {left}, right context {right}")


def _abilities(target: Machine) -> Abilities:
    """What there is where it is planned for; a CPU is this one."""
    from nnet.kernels.native_choice import chosen
    from nnet.plan.implementations import Abilities

    if target.is_gpu:
        return Abilities(native=False)
    return Abilities(bool(chosen().name), chosen().has_matrix_units)


def _print_cost(choices: Iterable[Choice], speech: float, machine: str) -> None:
    """The sum, for so many seconds of speech."""
    from nnet.plan.cost import Cost

    total, seconds = Cost(), 0.0
    for choice in choices:
        total += choice.cost
        seconds += choice.seconds
    print(
        f"{total.flops / 1e6:.1f} MFLOP, {total.bytes / 1e6:.1f} MB moved, {total.launches} "
        f"operations; {total.flops / 1e9 / speech:.3f} GFLOP per second of speech"
    )
    speed = speech / seconds
    print(f"by the cost model {1000 * seconds:.2f} ms on {machine}, {speed:.0f} x real time")


def _described(request: Request, batch: int) -> str:
    given = ", ".join(f"{name} {times}" for name, times in request.inputs)
    wanted = ", ".join(f"{name} {times}" for name, times in request.outputs)
    return f"{wanted} from {given}" + (f", {batch} sequences" if batch > 1 else "")
