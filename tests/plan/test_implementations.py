"""Costs of operations, what bounds them, and which implementation is chosen."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.modelfile.networks import build
from nnet.passes.base import run_passes
from nnet.passes.pipeline import pipeline
from nnet.plan import ir
from nnet.plan.cost import Cost, operation_cost, plan_cost
from nnet.plan.dump import dump
from nnet.plan.implementations import Abilities, Situation, choose, kernels
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.plan.machine import MACHINES, cuda_machine, machine
from nnet.plan.request import Request, TimeRange

TEXT = """
input name=input dim=40
relu-renorm-layer name=first dim=64 input=Append(-1,0,1)
affine-layer name=last dim=16
output name=output input=last
"""
FRAMES = 10


def planned(fused=False, training=True):
    plan = lower(build(TEXT, rng=np.random.default_rng(0)))
    plan = run_passes(plan, pipeline(test_mode=not training, fused=fused))
    request = Request.of({"input": TimeRange(-1, FRAMES + 2)}, {"output": TimeRange(0, FRAMES)})
    return plan, bind(plan, request)


def value_of(plan, component):
    (found,) = (
        value
        for value, operation in enumerate(plan.operations)
        if getattr(operation, "component", None) == component
    )
    return found


def test_an_affine_transform_reads_its_terms_and_weights_and_writes_its_rows():
    plan, layout = planned(fused=True)
    cost = operation_cost(plan, layout, value_of(plan, "first.affine"), batch=8)
    assert cost.flops == 8 * 2 * FRAMES * 120 * 64
    assert cost.bytes == 4 * (8 * FRAMES * (120 + 64) + 120 * 64)
    assert cost.launches == 1


def test_views_cost_nothing_and_the_whole_is_the_sum():
    plan, layout = planned()
    costs = [operation_cost(plan, layout, value) for value in range(len(plan.operations))]
    looks = [v for v, o in enumerate(plan.operations) if isinstance(o, ir.Look | ir.Input)]
    assert looks
    assert all(costs[value] == Cost() for value in looks)
    assert plan_cost(plan, layout) == sum(costs, Cost())


def test_kernels_that_splice_themselves_need_no_copies():
    assert any(isinstance(o, ir.Append) for o in planned()[0].operations)
    assert not any(isinstance(o, ir.Append) for o in planned(fused=True)[0].operations)
    assert not any(isinstance(o, ir.Append) for o in planned(True, training=False)[0].operations)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (Cost(10**12, 10**6, 1), "arithmetic"),
        (Cost(10**6, 10**10, 1), "memory"),
        (Cost(10, 10, 1), "launch"),
    ],
)
@pytest.mark.parametrize("name", MACHINES)
def test_what_bounds_an_operation(cost, expected, name):
    here = MACHINES[name]
    assert cost.bound(here) == expected
    assert cost.seconds(here) == max(cost.limits(here).values())


def on(here, batch=64, **given):
    device = "cuda" if MACHINES[here].is_gpu else "cpu"
    return Situation(**{"device": device, "batch": batch, **given})


def chosen(asked, here, batch=64):
    plan, layout = planned(fused=True)
    choices = choose(plan, layout, MACHINES[here], asked=asked, situation=on(here, batch))
    return {plan.operations[value].origin: c.implementation for value, c in choices.items()}


def test_plain_torch_where_it_is_asked_for():
    assert set(chosen("reference", "sm_90").values()) == {"reference"}


@pytest.mark.parametrize("here", MACHINES)
def test_kernels_where_they_are_asked_for_and_there_are_any(here):
    assert chosen("triton", here) == {
        "first.affine": "triton",
        "first.relu": "reference",
        "first.renorm": "triton",
        "last": "triton",
    }


@pytest.mark.parametrize("here", ["sm_80", "sm_90"])
def test_one_pass_is_chosen_where_passes_are_what_costs(here):
    found = chosen("auto", here)
    assert found["first.affine"] == found["first.renorm"] == "triton"


def test_one_pass_is_not_chosen_where_plain_torch_makes_but_one():
    plan, layout = planned(fused=True)
    large = choose(plan, layout, MACHINES["sm_80"], situation=on("sm_80", 10**6))[
        value_of(plan, "last")
    ]
    assert large.implementation == "reference"


def test_the_faster_one_is_chosen():
    plan, layout = planned(fused=True)
    by = {
        asked: choose(plan, layout, MACHINES["sm_80"], asked=asked, situation=on("sm_80"))
        for asked in ("auto", "reference", "triton")
    }
    for value, choice in by["auto"].items():
        both = (by["reference"][value].seconds, by["triton"][value].seconds)
        assert choice.seconds == min(both)


def test_the_dump_shows_cost_bound_and_implementation():
    plan, layout = planned(fused=True)
    text = dump(plan, layout, choose(plan, layout, MACHINES["sm_90"], situation=on("sm_90")))
    (line,) = (line for line in text.splitlines() if "affine first.affine" in line)
    assert line.endswith("9.830 MFLOP     0.502 MB  launch      triton")


UNITS = Abilities(native=True, matrix_units=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "native"),
        ({"abilities": Abilities(native=False)}, "reference (no native library: plain torch)"),
        ({"dtype": "float64"}, "reference (float64: plain torch)"),
        ({"dtype": "bfloat16"}, "reference (bfloat16: plain torch)"),
        ({"traced": True}, "reference (traced: plain torch)"),
        ({"device": "cuda"}, "reference (on cuda: plain torch)"),
        ({"gradient": True}, "reference (no matrix units: plain torch)"),
        (
            {"gradient": True, "abilities": UNITS, "batch": 1},
            "reference (too small for matrix units: plain torch)",
        ),
        ({"gradient": True, "abilities": UNITS, "batch": 512}, "native"),
    ],
)
def test_the_dump_says_why_native_code_does_not_run(given, expected):
    plan, layout = planned(fused=True, training=False)
    choices = choose(plan, layout, MACHINES["cpu"], situation=on("cpu", **given))
    text = dump(plan, layout, choices)
    (line,) = (line for line in text.splitlines() if "affine first.affine" in line)
    assert line.endswith(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: kernels("tritn"),
            "kernels are 'tritn', expected one of auto, reference, native, triton; did you mean "
            "triton?",
        ),
        (
            lambda: machine("sm90"),
            "unknown machine 'sm90', expected one of cpu, sm_80, sm_90; did you mean sm_90?",
        ),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(NnetError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((7, 5), "sm_80"),
        ((8, 0), "sm_80"),
        ((8, 9), "sm_80"),
        ((9, 0), "sm_90"),
        ((12, 0), "sm_90"),
    ],
)
def test_a_device_has_the_latest_description_before_it(capability, name):
    assert cuda_machine(*capability).name == name
