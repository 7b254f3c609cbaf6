"""Test mode, and components merged for use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnet.components.affine import Affine, NaturalGradientAffine
from nnet.errors import NnetError
from nnet.graph.check import check_network
from nnet.graph.collapse import NNET3_RULES, RULES, collapse, prepare_for_test
from nnet.graph.lines import node_lines
from nnet.graph.network import Network
from nnet.modelfile.model import model_bytes
from nnet.plan.request import Request
from nnet.runtime.oracle import interpret
from tests.random_networks import INPUT_DIMS, REQUEST, random_network, random_recurrent_network
from tests.support import GOLDEN, golden_network, network_from

ALL = tuple(RULES)
BATCHNORM = "type=BatchNormComponent dim=6"
AFFINE = "type=NaturalGradientAffineComponent input-dim=6 output-dim=6 max-change=0.5"
RELU = "type=RectifiedLinearComponent dim=6"


def chain(*components: str, head: str = "") -> Network:
    """input (5) -> first (5 to 6) -> c0 -> c1 ... -> output; each item is `settings [descriptor]`,
    where in the descriptor `@` stands for the node before."""
    lines = [
        "input-node name=input dim=5",
        "component name=first type=LinearComponent input-dim=5 output-dim=6",
        "component-node name=first component=first input=input",
    ]
    before = "first"
    for number, item in enumerate(components):
        settings, _, descriptor = item.partition(" | ")
        lines.append(f"component name=c{number} {settings}")
        read = (descriptor or "@").replace("@", before)
        lines.append(f"component-node name=c{number} component=c{number} input={read}")
        before = f"c{number}"
    network = network_from("\n".join([*lines, f"output-node name=output input={before}", head]))
    return _with_statistics(network)


def _with_statistics(network: Network) -> Network:
    rng = np.random.default_rng(1)
    for component in network.components.values():
        if "stats_mean" in component.specs():
            component.count = 100.0
            component.stats_mean = rng.normal(size=component.block_dim).astype(np.float32)
            component.stats_var = rng.uniform(0.1, 2, component.block_dim).astype(np.float32)
    return network


def result(network: Network, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    given = {name: times for name, times in REQUEST.inputs if name in network.nodes}
    inputs = {
        name: torch.randn(2, times.count, INPUT_DIMS[name], generator=generator).double()
        for name, times in given.items()
    }
    return interpret(network, Request.of(given, dict(REQUEST.outputs)), inputs)["output"]


def prepared(network: Network, kinds: tuple[str, ...] = ALL) -> Network:
    """The prepared network; its result is checked to be that of the given one."""
    expected = result(network)
    after = prepare_for_test(network, kinds)
    check_network(after)
    torch.testing.assert_close(result(after), expected, rtol=1e-5, atol=1e-5)
    return after


def reads(network: Network) -> dict[str, tuple[str, str]]:
    """Of each component-node its component and what it reads, as text."""
    words = [
        dict(w.split("=", 1) for w in line.split(" ", 3) if "=" in w)
        for line in node_lines(network)
        if line.startswith("component-node")
    ]
    return {w["name"]: (w["component"], w["input"]) for w in words}


def test_prepared_as_nnet3_copy_does() -> None:
    network = prepare_for_test(golden_network("training/frame_level/plain"))
    for component in network.components.values():
        component.recount()
    expected = (GOLDEN / "training/frame_level/prepared.raw").read_bytes()
    assert model_bytes(network) == expected


def test_nnet3_leaves_batchnorm_and_dropout() -> None:
    network = chain(BATCHNORM, "type=DropoutComponent dim=6 dropout-proportion=0.2", AFFINE)
    after = prepared(network, NNET3_RULES)
    assert list(after.components) == ["first", "c0", "c1", "c2"]
    assert after.components["c0"].test_mode
    assert after.components["c1"].test_mode


def test_batchnorm_goes_into_the_affine_after_it() -> None:
    wide = AFFINE.replace("input-dim=6", "input-dim=18")
    network = chain(RELU, BATCHNORM, f"{wide} | Append(Offset(@, -3), @, Offset(@, 2))")
    after = prepared(network)
    assert reads(after) == {
        "first": ("first", "input"),
        "c0": ("c0", "first"),
        "c2": ("c1.c2", "Append(Offset(c0, -3), c0, Offset(c0, 2))"),
    }
    component = after.components["c1.c2"]
    assert isinstance(component, NaturalGradientAffine)
    assert component.max_change == 0.5


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("type=LinearComponent input-dim=6 output-dim=4 learning-rate=0.5", "AffineComponent"),
        (
            "type=TdnnComponent input-dim=6 output-dim=4 time-offsets=-1,2 use-bias=false",
            "TdnnComponent",
        ),
        ("type=AffineComponent input-dim=6 output-dim=4", "AffineComponent"),
    ],
)
def test_what_batchnorm_goes_into(kind: str, made: str) -> None:
    block = "type=BatchNormComponent dim=6 block-dim=2 target-rms=0.5"
    after = prepared(chain(RELU, block, kind))
    assert after.components["c1.c2"].type_name == made
    assert "c1" not in after.components
    if "learning-rate" in kind:
        assert after.components["c1.c2"].learning_rate == 0.5


@pytest.mark.parametrize(
    "kind",
    [
        AFFINE,
        "type=LinearComponent input-dim=6 output-dim=4",
        "type=TdnnComponent input-dim=6 output-dim=4 time-offsets=0,1",
        "type=TimeHeightConvolutionComponent num-filters-in=2 num-filters-out=4 height-in=3 "
        "height-out=3 height-offsets=-1,0,1 time-offsets=-1,0",
    ],
)
def test_dropout_goes_into_the_matrix_after_it(kind: str) -> None:
    dropout = "type=DropoutComponent dim=6 dropout-proportion=0.2"
    after = prepared(chain(RELU, dropout, kind))
    assert reads(after)["c2"] == ("c2.scale0.8", "c0")


@pytest.mark.parametrize(
    "kind", ["type=GeneralDropoutComponent dim=6", "type=SpecAugmentTimeMaskComponent dim=6"]
)
def test_dropout_that_is_nothing_in_test_mode_goes_before_anything(kind: str) -> None:
    after = prepared(chain(BATCHNORM, kind, "type=TanhComponent dim=6"))
    assert reads(after)["c2"] == ("c2", "c0")


def test_two_affine_components_become_one() -> None:
    wide = "type=AffineComponent input-dim=12 output-dim=3"
    fixed = "type=FixedAffineComponent input-dim=6 output-dim=6"
    after = prepared(chain(fixed, f"{wide} | Append(Offset(@, -1), @)"), NNET3_RULES)
    assert reads(after)["c1"] == ("c0.c1", "Append(Offset(first, -1), first)")
    component = after.components["c0.c1"]
    assert isinstance(component, Affine)
    assert component.linear.shape == (3, 12)


def test_an_affine_component_that_lowers_the_dimension_stays() -> None:
    narrow = AFFINE.replace("output-dim=6", "output-dim=5")
    after = prepared(chain(narrow, AFFINE.replace("input-dim=6", "input-dim=5")))
    assert list(after.components) == ["first", "c0", "c1"]


def test_fixed_scales_go_into_the_affine_before_them() -> None:
    after = prepared(chain(AFFINE, "type=FixedScaleComponent dim=6 | Offset(@, 1)"), NNET3_RULES)
    assert reads(after)["c1"] == ("c0.c1", "Offset(first, 1)")
    assert isinstance(after.components["c0.c1"], NaturalGradientAffine)


def test_several_in_a_row() -> None:
    after = prepared(chain(AFFINE, BATCHNORM, AFFINE, "type=FixedScaleComponent dim=6"))
    assert list(after.components) == ["first", "c0.c1.c2.c3"]


def test_what_others_read_stays_too() -> None:
    network = chain(RELU, BATCHNORM, AFFINE, head="output-node name=other input=c1")
    after = prepared(network)
    assert list(reads(after)) == ["first", "c0", "c1", "c2"]
    assert reads(after)["c2"] == ("c1.c2", "c0")


def test_two_nodes_with_the_same_components_share_the_merged_one() -> None:
    more = "component-node name=again component=c1 input=Offset(c0, -2)\n"
    network = chain(BATCHNORM, AFFINE, head=more + "output-node name=other input=again")
    after = prepared(network)
    assert reads(after)["again"] == ("c0.c1", "Offset(first, -2)")
    assert list(after.components) == ["first", "c0.c1"]


def test_a_name_that_is_taken_is_not_mixed_up() -> None:
    more = f"component name=c0.c1 {RELU}\ncomponent-node name=r component=c0.c1 input=c1\n"
    network = chain(BATCHNORM, AFFINE, head=more + "output-node name=other input=r")
    after = prepared(network)
    assert reads(after)["c1"] == ("c0.c1_", "first")
    assert reads(after)["r"] == ("c0.c1", "c1")


@pytest.mark.parametrize(
    "descriptor",
    ["Scale(2.0, @)", "Sum(@, @)", "Round(@, 2)", "Sum(@, Const(1.0, 6))", "Failover(@, first)"],
)
def test_other_descriptors_are_left(descriptor: str) -> None:
    after = prepared(chain(BATCHNORM, f"{AFFINE} | {descriptor}"))
    assert list(after.components) == ["first", "c0", "c1"]


def test_a_loop_of_affine_components_ends() -> None:
    network = chain(f"{AFFINE} | Sum(@, IfDefined(Offset(c1, -1)))", AFFINE)
    after = collapse(network, ALL)
    assert reads(after)["c1"] == ("c0.c1", "Sum(first, IfDefined(Offset(c1, -1)))")
    circle = chain(f"{AFFINE} | Offset(c1, -1)", AFFINE)
    check_network(collapse(circle, ALL))


def test_batchnorm_without_statistics_is_refused() -> None:
    network = chain(BATCHNORM)
    network.components["c0"].count = 0.0
    with pytest.raises(NnetError, match="batch-norm component 'c0' has no statistics"):
        prepare_for_test(network)


@pytest.mark.parametrize("kinds", [ALL, NNET3_RULES, ("batchnorm",)])
@pytest.mark.parametrize("seed", range(60))
def test_random_networks_keep_their_results(seed: int, kinds: tuple[str, ...]) -> None:
    prepared(random_network(seed), kinds)


@pytest.mark.parametrize("seed", range(20))
def test_random_loops_keep_their_results(seed: int) -> None:
    prepared(random_recurrent_network(seed))


def test_test_mode_reaches_into_composite_components() -> None:
    parts = f'component1="{BATCHNORM}" component2="{RELU}"'
    network = chain(f"type=CompositeComponent num-components=2 {parts}")
    composite = network.components["c0"]
    batchnorm = composite.components[0]
    with pytest.raises(NnetError, match=r"batch-norm component 'c0.component1' has no statistics"):
        prepare_for_test(network)
    batchnorm.count, batchnorm.stats_mean = 9.0, np.ones(6, np.float32)
    batchnorm.stats_var = np.ones(6, np.float32)
    prepare_for_test(network)
    assert batchnorm.test_mode
