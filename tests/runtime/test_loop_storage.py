"""Where a loop's values and gradients lie, and that the derivative does not care."""

import pytest
import torch

import nnet
from nnet.kernels import native
from nnet.plan import ir
from nnet.plan.groups import Loop
from nnet.plan.layout import bind
from nnet.plan.loops.places import Place
from nnet.plan.loops.storage import Buffers, Storage, arrange

LSTMP = (
    "input name=input dim=6\n"
    "fast-lstmp-layer name=lstm input=input cell-dim=8 recurrent-projection-dim=3 "
    "non-recurrent-projection-dim=2 delay={delay}\n"
    "output-layer name=output input=lstm dim=5\n"
)

CELL = "component name=cell type=LstmNonlinearityComponent cell-dim=4\n"
AFFINE = "component name={} type=NaturalGradientAffineComponent input-dim=10 output-dim=4\n"
APART = (  # a transform for each gate, which a cell reads as one block
    "input-node name=input dim=6\n"
    + CELL
    + "".join(AFFINE.format(f"to_{gate}") for gate in "ifgo")
    + "".join(
        f"component-node name=to_{gate} component=to_{gate} "
        "input=Append(input, IfDefined(Offset(m, -1)))\n"
        for gate in "ifgo"
    )
    + "component-node name=cell component=cell "
    "input=Append(to_i, to_f, to_g, to_o, IfDefined(Offset(c, -1)))\n"
    "dim-range-node name=c input-node=cell dim-offset=0 dim=4\n"
    "dim-range-node name=m input-node=cell dim-offset=4 dim=4\n"
    "output-node name=output input=Append(m, c) objective=quadratic\n"
)
READ_TWICE = APART.replace("Append(m, c)", "Append(m, to_g)")  # and a gate is wanted elsewhere

NETWORKS = {
    "lstmp": LSTMP.format(delay=-1),
    "lstmp, delay 3": LSTMP.format(delay=-3),
    "backwards": LSTMP.format(delay=2),
    "a transform for each gate": APART,
    "a gate that is read elsewhere": READ_TWICE,
}


def built(text: str) -> nnet.Network:
    torch.manual_seed(0)
    network = nnet.build(text)
    module = nnet.compile(network)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 2)
    return module.to_network()


def gradients(
    network: nnet.Network, dtype: torch.dtype, sequences: int = 3, times: int = 1
) -> list[torch.Tensor]:
    module = nnet.compile(network).train().to(dtype)
    request = module.chunk_request(7)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(
        sequences, request.inputs[0][1].count, 6, generator=generator, dtype=torch.float64
    )
    x = x.to(dtype).requires_grad_()
    found = module({"input": x}, request)["output"].sin().sum()
    for _ in range(times):
        found.backward(retain_graph=True)
    return [p.grad / times for p in (x, *module.parameters())]


def storage(text: str, frames: int = 7) -> Storage:
    module = nnet.compile(nnet.build(text))
    plan, layout = module.plan, bind(module.plan, module.chunk_request(frames))
    (loop,) = (group for group in plan.groups if isinstance(group, Loop))
    read = {v for value, made in enumerate(plan.operations) if value not in loop.phases
            for v in made.operands} | {v for _, v in plan.results}  # fmt: skip
    return arrange(plan, layout, loop, [v for v in loop.values if v in read])


def test_only_the_last_step_has_fewer_frames():
    """As nnet3 has it, whatever the times: statistics of a step decide about its self-repair."""
    ways = {
        "lstmp": [(t, t + 1) for t in range(8)],
        "lstmp, delay 3": [(0, 3), (3, 6), (6, 8)],
        "backwards": [(6, 8), (4, 6), (2, 4), (0, 2)],
    }
    for name, expected in ways.items():
        found = storage(NETWORKS[name], 8)
        whole = [v for v in found.computed if found.layout.times[v].count == 8]
        assert whole
        assert all(found.steps[value] == expected for value in whole)


@pytest.mark.parametrize("sequences", [3, 64])  # rows of a step that are few, and that are many
@pytest.mark.parametrize("text", NETWORKS.values(), ids=NETWORKS.keys())
def test_native_steps_have_the_derivative_of_plain_ones(text, sequences):
    assert native.loaded() is not None
    network = built(text)
    singles = gradients(network, torch.float32, sequences)
    for single, double in zip(singles, gradients(network, torch.float64, sequences), strict=True):
        size = float(double.abs().max())
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("text", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_second_derivative_of_the_same_run_is_the_first(text):
    network = built(text)
    for once, twice in zip(
        gradients(network, torch.float32), gradients(network, torch.float32, times=2), strict=True
    ):
        torch.testing.assert_close(once, twice, rtol=1e-6, atol=1e-6)


def test_what_a_cell_reads_is_not_put_side_by_side():
    found = storage(NETWORKS["lstmp"])
    appends = [v for v in found.computed if isinstance(found.plan.operations[v], ir.Append)]
    assert len(appends) == 2  # of the cell's input, of what is truncated
    assert not any(found.values.is_made(append) for append in appends)
    made = {v for v in found.computed if found.values.is_made(v)}
    assert all(isinstance(found.plan.operations[v], ir.SplicedAffine | ir.Apply) for v in made)


def place_of_gates(found: Storage, buffers: Buffers) -> Place:
    """What the cell's first four blocks are read from, or their gradient's place."""
    (cell,) = (value for value in found.computed if is_cell(found, value))
    gates = found.plan.operations[cell].operands[0]
    return buffers.place(gates, 0, 2 * found.plan.dim(cell))


def is_cell(found: Storage, value: int) -> bool:
    operation = found.plan.operations[value]
    spec = found.plan.components.get(getattr(operation, "component", ""))
    return getattr(spec, "type_name", "") == "LstmNonlinearityComponent"


@pytest.mark.parametrize("name", ["lstmp", "a transform for each gate"])
def test_the_derivative_for_gates_lies_where_they_were(name):
    found = storage(NETWORKS[name])
    place = place_of_gates(found, found.values)
    assert found.overwritable(place)
    assert place.is_same(place_of_gates(found, found.gradients))


def test_a_gate_that_is_read_elsewhere_is_left_alone():
    found = storage(READ_TWICE)
    assert not found.overwritable(place_of_gates(found, found.values))
