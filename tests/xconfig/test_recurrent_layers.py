"""What options of recurrent layers do, beyond what the golden networks use."""

from __future__ import annotations

import pytest

from nnet.xconfig.registry import layer_types
from tests.xconfig.expanding import components, config, expanded, nodes

PROJECTED = [
    *("lstmp-layer", "lstmp-batchnorm-layer", "fast-lstmp-layer", "fast-lstmp-batchnorm-layer"),
    *("pgru-layer", "norm-pgru-layer", "opgru-layer", "norm-opgru-layer"),
    *("fast-pgru-layer", "fast-norm-pgru-layer", "fast-opgru-layer", "fast-norm-opgru-layer"),
]
UNPROJECTED = [
    *("lstm-layer", "fast-lstm-layer", "fast-lstm-batchnorm-layer", "gru-layer", "fast-gru-layer")
]


@pytest.mark.parametrize("layer_type", PROJECTED)
def test_projections_are_a_quarter_of_the_cells_by_default(layer_type: str) -> None:
    expansion = expanded(f"{layer_type} name=x cell-dim=18")
    settings = {s.key: s.value for s in expansion.expanded1.lines[1].settings}
    assert settings["recurrent-projection-dim"] == "4"
    assert settings["non-recurrent-projection-dim"] == "4"
    assert expansion.layers[1].outputs()[""].dim == 8


@pytest.mark.parametrize("layer_type", PROJECTED)
def test_the_other_projection_is_as_wide_as_the_recurrent_one(layer_type: str) -> None:
    layer = expanded(f"{layer_type} name=x cell-dim=18 recurrent-projection-dim=6").layers[1]
    assert layer.outputs()[""].dim == 12


@pytest.mark.parametrize("layer_type", UNPROJECTED)
def test_there_are_as_many_cells_as_columns_of_the_input_by_default(layer_type: str) -> None:
    assert expanded(f"{layer_type} name=x").layers[1].outputs()[""].dim == 24


@pytest.mark.parametrize("layer_type", [*PROJECTED, *UNPROJECTED, "lstmb-layer"])
def test_every_output_is_a_node_of_the_network(layer_type: str) -> None:
    layer = f"{layer_type} {layer_types()[layer_type].example}"
    name = layer.split("name=")[1].split()[0]
    for auxiliary, output in expanded(layer).layers[1].outputs().items():
        source = f"{name}.{auxiliary}" if auxiliary else name
        lines = config(layer, f"no-op-component name=reader input={source}")
        made = {word for line in lines for word in line.split() if word.startswith("name=")}
        read = str(getattr(output.descriptor, "name", ""))
        assert f"name={read}" in made
        assert f"component-node name=reader component=reader input={read}" in lines
        assert f"component name=reader type=NoOpComponent dim={output.dim}" in lines


def test_cells_of_a_fast_lstm_are_made_where_they_are_read() -> None:
    layer = "fast-lstm-layer name=x cell-dim=8"
    cells = "dim-range-node name=x.c input-node=x.lstm_nonlin dim-offset=0 dim=8"
    assert cells not in config(layer)
    assert cells in config(layer, "no-op-component name=b input=[-1].c@-2")


def test_the_cells_of_an_lstm_two_layers_up() -> None:
    lines = config("lstmp-layer name=x cell-dim=8", "relu-layer name=b", "relu-layer name=c")
    more = config(
        "lstmp-layer name=x cell-dim=8",
        "relu-layer name=b",
        "relu-layer name=c input=Append([-1], [-2].c_t)",
    )
    assert len(lines) == len(more)
    assert "component-node name=c.affine component=c.affine input=Append(b.relu, x.c_t)" in more


def test_decay_time_scales_what_is_remembered() -> None:
    settings = "clipping-threshold=30.0 zeroing-threshold=15.0 zeroing-interval=20"
    truncation = f"type=BackpropTruncationComponent dim=6 {settings} recurrence-interval=4 scale="
    layer = "lstm-layer name=x cell-dim=6 delay=-4"
    assert components(layer)["r"] == truncation + "1.0"
    assert components(layer + " decay-time=16")["c"] == truncation + "0.75"


def test_the_future_is_remembered_with_a_positive_delay() -> None:
    layer = "fast-lstm-layer name=x cell-dim=6 delay=3"
    assert "recurrence-interval=3" in components(layer)["cm_trunc"]
    assert nodes(layer)["W_all"] == "W_all Append(input, IfDefined(Offset(m_trunc, 3)))"


def test_dropout_of_the_gates_of_an_lstmp_layer() -> None:
    layer = "lstmp-layer name=x cell-dim=8 dropout-proportion=0.25 dropout-per-frame=true"
    dropout = "type=DropoutComponent dim=8 dropout-proportion=0.25 dropout-per-frame=true"
    assert components(layer)["dropout"] == dropout
    found = nodes(layer)
    for gate in "ifo":
        assert found[f"{gate}_t_predrop"] == f"{gate} Sum({gate}1_t, {gate}2_t)"
        assert found[f"{gate}_t"] == f"dropout {gate}_t_predrop"
    assert "dropout" not in components("lstmp-layer name=x cell-dim=8")


def test_dropout_of_the_gates_of_a_fast_lstmp_layer() -> None:
    layer = "fast-lstmp-layer name=x cell-dim=8 dropout-proportion=0"
    found = components(layer)
    assert found["dropout_mask"] == "type=DropoutMaskComponent output-dim=3 dropout-proportion=0.0"
    assert "cell-dim=8 use-dropout=true max-change=0.75" in found["lstm_nonlin"]
    assert nodes(layer)["lstm_nonlin"] == (
        "lstm_nonlin Append(W_all, IfDefined(Offset(c_trunc, -1)), dropout_mask)"
    )
    plain = components("fast-lstmp-layer name=x cell-dim=8")
    assert "dropout_mask" not in plain
    assert "use-dropout=false" in plain["lstm_nonlin"]


@pytest.mark.parametrize(
    ("layer_type", "dropout", "undropped"),
    [
        ("norm-pgru-layer", ["dropout_z", "dropout_r"], ["z_predrop_t", "r_predrop_t"]),
        ("norm-opgru-layer", ["dropout", "dropout"], ["z_predrop_t", "o_predrop_t"]),
        ("fast-norm-pgru-layer", ["dropout_z", "dropout_r"], ["z_t_predrop", "r_t_predrop"]),
        ("fast-norm-opgru-layer", ["dropout", "dropout"], ["z_t_predrop", "o_t_predrop"]),
    ],
)
def test_dropout_of_the_gates_of_a_gru(
    layer_type: str, dropout: list[str], undropped: list[str]
) -> None:
    layer = f"{layer_type} name=x cell-dim=8 dropout-proportion=0.5"
    for component, node in zip(dropout, undropped, strict=True):
        assert components(layer)[component].endswith("dropout-per-frame=true")
        assert nodes(layer)[f"{node[0]}_t"] == f"{component} {node}"
        assert nodes(layer)[node] == f"{node[0]} {node[0]}_t_pre"


def test_l2_regularization_goes_to_the_matrices() -> None:
    regularized = [
        name
        for name, text in components("lstmp-layer name=x cell-dim=8 l2-regularize=0.5").items()
        if text.endswith("l2-regularize=0.5")
    ]
    gates = [f"{matrix}_{gate}" for gate in "ifo" for matrix in "Ww"]
    assert len(regularized) == len(gates) + 2
    assert components("norm-opgru-layer name=x cell-dim=8 l2-regularize=0.5")["W_h.UW"].endswith(
        "max-change=0.75 l2-regularize=0.5"
    )


def test_diagonal_matrices_start_at_random_unless_their_settings_say_otherwise() -> None:
    layer = "opgru-layer name=x cell-dim=8"
    drawn = "max-change=0.75 param-mean=0.0 param-stddev=1.0"
    assert components(layer)["W_h.UW_elementwise"].endswith(drawn)
    given = components(layer + ' ng-per-element-scale-options="param-mean=0.5"')
    assert given["W_h.UW_elementwise"].endswith("dim=8 param-mean=0.5")


def test_the_recurrent_part_of_lstmb_can_be_scaled() -> None:
    layer = "lstmb-layer name=x cell-dim=8 bottleneck-dim=4 self-scale=0.5 delay=-2"
    assert nodes(layer)["W_all_a"] == (
        "W_all_a Append(input, IfDefined(Offset(Scale(0.5, m_trunc), -2)))"
    )
