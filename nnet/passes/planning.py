"""From a network to the plan that runs: what `nnet compile` shows is what is carried out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnet.graph.network import Network
from nnet.passes.base import Pass, Watcher, run_passes
from nnet.passes.pipeline import pipeline
from nnet.plan.implementations import Abilities, Kernels
from nnet.plan.ir import Plan
from nnet.plan.lower import lower
from nnet.plan.machine import Machine


def plan_network(
    network: Network,
    machine: Machine,
    *,
    abilities: Abilities,
    asked: Kernels = "auto",
    test_mode: bool = False,
    outputs: Iterable[str] | None = None,
    log_likelihoods: Sequence[str] = (),
    passes: Sequence[Pass] | None = None,
    watch: Watcher | None = None,
) -> Plan:
    """The plan of a network.

    Args:
        abilities: what there is where it will run.
        asked: which implementations may run.
        outputs, test_mode, log_likelihoods, passes: see `nnet.compile`.
        watch: is called with the lowered plan and after each pass.
    """
    ours = asked == "triton" or (asked == "auto" and machine.is_gpu)
    packed = test_mode and abilities.native and asked in ("auto", "native")
    usual = pipeline(
        test_mode=test_mode, fused=ours or packed, log_likelihoods=tuple(log_likelihoods)
    )
    plan = lower(network, outputs)
    if watch is not None:
        watch("lowered", plan)
    return run_passes(plan, usual if passes is None else passes, watch)
