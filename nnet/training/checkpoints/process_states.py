"""What a checkpoint holds of each of several processes, so that a resumed run is the same run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

State = dict[str, Any]
DIFFERENT = ("module", "optimizer", "first_iteration")
"""Parts of a trainer's state that may be different in each process."""


def own_part(state: State, module: nn.Module, *, whole: bool) -> State:
    """What a process adds to the state of the leading one, its tensors on the CPU.

    Args:
        state: of this process.
        module: that is trained.
        whole: whether parameters and optimizers differ too, and not the statistics alone.
    """
    if whole:
        return {name: on_cpu(state[name]) for name in DIFFERENT}
    parameters = {name for name, _ in module.named_parameters()}
    statistics = {n: value for n, value in state["module"].items() if n not in parameters}
    return {"module": on_cpu(statistics)}


def own_states(state: State) -> list[State]:
    """The state of each process from a checkpoint, where `others` has those parts."""
    common = {name: value for name, value in state.items() if name != "others"}
    return [
        {**common, **part, "module": {**common["module"], **part.get("module", {})}}
        for part in ({}, *state["others"])
    ]


def on_cpu(value: Any) -> Any:
    """A tree of dicts and lists with its tensors copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [on_cpu(inner) for inner in value]
    return value
