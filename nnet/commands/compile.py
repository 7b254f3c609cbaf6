"""`nnet compile`: shows the plan of a network, before and after each pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

if TYPE_CHECKING:
    from nnet.plan.ir import Plan
    from nnet.plan.request import Request


def compile(
    model: Annotated[str, Argument(help="Model file, .raw or .mdl.")],
    dump: Annotated[
        bool, Option("--dump", help="Print the plan before and after each pass.")
    ] = False,
    frames: Annotated[int, Option(min=1, help="Frames of the request.")] = 150,
    frame_subsampling_factor: Annotated[
        int, Option(min=1, help="Input frames per output frame.")
    ] = 1,
    frames_per_second: Annotated[float, Option(help="For the cost per second of speech.")] = 100.0,
    batch: Annotated[int, Option(min=1, help="Sequences in a minibatch.")] = 1,
    training: Annotated[
        bool, Option("--training", help="The plan for training, not for test mode.")
    ] = False,
    output_name: Annotated[str, Option(help="Which output node; all by default.")] = "",
) -> None:
    """Plans a network for a request and says what it costs.

    Example: nnet compile final.mdl --dump --frames 150 --frame-subsampling-factor 3
    """
    from nnet.graph.context import context
    from nnet.modelfile.model import read_model
    from nnet.passes.base import run_passes
    from nnet.passes.pipeline import TEST, TRAINING
    from nnet.plan.dump import dump as dumped
    from nnet.plan.layout import bind
    from nnet.plan.lower import lower
    from nnet.plan.request import chunk_request

    network = read_model(model).network
    left, right = context(network)
    start = time.perf_counter()
    plan = lower(network, [output_name] if output_name else None)
    request = chunk_request(
        network,
        frames,
        left_context=left,
        right_context=right,
        subsampling=frame_subsampling_factor,
        outputs=tuple(name for name, _ in plan.results),
    )

    def show(name: str, step: Plan) -> None:
        if dump:
            print(f"--- {name}: {len(step.operations)} values\n{dumped(step)}\n")

    show("lowered", plan)
    plan = run_passes(plan, TRAINING if training else TEST, show)
    layout = bind(plan, request, exact=training)
    seconds = time.perf_counter() - start
    print(f"--- plan for {_described(request)}\n{dumped(plan, layout)}\n")
    _print_cost(plan, request, frames / frames_per_second, batch, exact=training)
    if not dump:
        print(f"planned in {1000 * seconds:.1f} ms; left context {left}, right context {right}")


def _print_cost(plan: Plan, request: Request, seconds: float, batch: int, *, exact: bool) -> None:
    from nnet.plan.cost import plan_cost
    from nnet.plan.layout import bind

    total = plan_cost(plan, bind(plan, request, exact=exact))
    print(
        f"{batch} x {total.flops / 1e6:.1f} MFLOP, {batch} x {total.bytes / 1e6:.1f} MB moved; "
        f"{total.flops / 1e9 / seconds:.3f} GFLOP per second of speech"
    )


def _described(request: Request) -> str:
    given = ", ".join(f"{name} {times}" for name, times in request.inputs)
    wanted = ", ".join(f"{name} {times}" for name, times in request.outputs)
    return f"{wanted} from {given}"
