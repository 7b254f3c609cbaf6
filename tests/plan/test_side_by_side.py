"""Loops in pairs."""

import pytest

import nnet
from nnet.plan.groups import Loop
from nnet.plan.loops.side_by_side import with_pairs

HEAD = "input name=input dim=4\n"
LAYER = "fast-lstm-layer name={} cell-dim=3 delay={} input={}\n"
TAIL = "output-layer name=output dim=3 input={}\n"


def pairs(*layers, end):
    """How many loops each group of loops has, and whether each group comes after what it reads."""
    text = HEAD + "".join(LAYER.format(*layer) for layer in layers) + TAIL.format(end)
    plan = nnet.compile(nnet.build(text)).plan
    found = with_pairs(plan, plan.groups, lambda one, other: True)
    known: set[int] = set()
    for group in found:
        values = [v for loop in group for v in loop.values] if isinstance(group, tuple) else [group]
        for loop in group if isinstance(group, tuple) else ():
            assert isinstance(loop, Loop)
            outside = {o for v in loop.values for o in plan.operations[v].operands}
            assert outside - set(loop.values) <= known
        if not isinstance(group, tuple):
            assert set(plan.operations[group].operands) <= known
        known.update(values)
    assert known == set(range(len(plan.operations)))
    return [len(group) for group in found if isinstance(group, tuple)]


def test_two_directions():
    assert pairs(("a", -1, "input"), ("b", 1, "input"), end="Append(a, b)") == [2]


def test_a_loop_that_needs_another_waits():
    assert pairs(("a", -1, "input"), ("b", -1, "a"), end="b") == [1, 1]


def test_layers_of_two_directions():
    layers = (
        ("a", -1, "input"),
        ("b", 1, "input"),
        ("c", -1, "Append(a, b)"),
        ("d", 1, "Append(a, b)"),
    )
    assert pairs(*layers, end="Append(c, d)") == [2, 2]


def test_pairs_do_not_wait_for_each_other():
    """Two chains: a loop of the one with one of the other, each only if the rest still works."""
    layers = (("a", -1, "input"), ("b", -1, "a"), ("c", 1, "input"), ("d", 1, "c"))
    assert pairs(*layers, end="Append(b, d)") == [2, 2]


@pytest.mark.parametrize("count", [3, 5])
def test_one_is_left_over(count):
    layers = [(f"l{n}", -1, "input") for n in range(count)]
    names = ", ".join(name for name, _, _ in layers)
    assert sorted(pairs(*layers, end=f"Append({names})")) == [1] + [2] * (count // 2)
