"""LSTM layers with one component for all gates: the fast-lstm family and lstmb-layer.

They compute what `nnet.xconfig.lstm` does; the nonlinearity and its diagonal matrices are one
LstmNonlinearityComponent.
"""

from __future__ import annotations

from nnet.text.syntax import Descriptor, Line, NodeName
from nnet.text.values import integer, real
from nnet.xconfig.lines import Wiring
from nnet.xconfig.option import POSITIVE, REQUIRED, Extra, Option
from nnet.xconfig.recurrent import (
    AFFINE,
    TRUNCATION,
    Decaying,
    Projected,
    Regularized,
    affine_dims,
    gate_dropout_proportion,
)
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

_NONLINEARITY = "LstmNonlinearityComponent"


class _FastLstm(Decaying, Regularized):
    """An LSTM around an LstmNonlinearityComponent, which gives cells c and output m."""

    lstm_nonlinearity_options = Extra("settings of the LSTM nonlinearity", " max-change=0.75")
    ng_affine_options = Extra("settings of the matrices", " max-change=1.5")

    def add_cells(self, net: Wiring, gates: NodeName) -> None:
        """The nonlinearity, and what is read of it and remembered, each `cell-dim` wide."""
        cells = self.cell_dim
        past = net.earlier(net["c_trunc"], self.delay)
        both = net.node("lstm_nonlin", "lstm_nonlin", net.append(gates, past))
        if "c" in self.outputs_read:
            net.columns("c", both, 0, cells)
        net.columns("m", both, cells, cells)
        truncated = net.node("cm_trunc", "cm_trunc", both)
        net.columns("c_trunc", truncated, 0, cells)
        net.columns("m_trunc", truncated, cells, cells)


@register("fast-lstm-layer", "fast-lstm-batchnorm-layer")
class FastLstmLayer(_FastLstm):
    """A long short-term memory layer whose gates are one component.

    Other layers can read its cells as `NAME.c`.
    """

    example = "name=lstm1 cell-dim=512 delay=-3"

    @property
    def normalized(self) -> bool:
        return self.line.word == "fast-lstm-batchnorm-layer"

    def outputs(self) -> dict[str, Output]:
        main = self.output("m_batchnorm" if self.normalized else "m", self.cell_dim)
        return {"": main, "c": self.output("c", self.cell_dim)}

    def config(self) -> list[Line]:
        net = self.wiring()
        cells = self.cell_dim
        dims = affine_dims(self.input.dim + cells, 4 * cells)
        net.component("W_all", AFFINE, dims, self.ng_affine_options.settings, self.regularization)
        net.component(
            "lstm_nonlin",
            _NONLINEARITY,
            {"cell-dim": cells},
            self.lstm_nonlinearity_options.settings,
            self.regularization,
        )
        net.component("cm_trunc", TRUNCATION, {"dim": 2 * cells}, self.truncation)
        past = net.earlier(net["m_trunc"], self.delay)
        self.add_cells(net, net.node("W_all", "W_all", net.append(self.input.nodes, past)))
        if self.normalized:
            net.component("m_batchnorm", "BatchNormComponent", {"dim": cells})
            net.node("m_batchnorm", "m_batchnorm", net["m"])
        return net.lines


@register("lstmb-layer")
class LstmbLayer(_FastLstm):
    """An LSTM whose matrix is factorized through `bottleneck-dim`, with batchnorm at its end."""

    example = "name=lstm1 cell-dim=768 bottleneck-dim=192 delay=-3"
    bottleneck_dim = Option(
        integer, REQUIRED, "number of columns between the two factors", check=POSITIVE
    )
    orthonormal_constraint = Option(
        real, 1.0, "scale of the first factor's orthonormal constraint; negative for a floating one"
    )
    self_scale = Option(real, 1.0, "scale of what the layer remembers of its output")

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("m_batchnorm", self.cell_dim)}

    def config(self) -> list[Line]:
        net = self.wiring()
        self._add_components(net)
        own = net.scale(self.self_scale, net["m_trunc"])
        factor = net.node(
            "W_all_a", "W_all_a", net.append(self.input.nodes, net.earlier(own, self.delay))
        )
        gates = net.node("W_all_b", "W_all_b", factor)
        self.add_cells(net, net.node("W_all_b_so", "W_all_b_so", gates))
        net.node("m_batchnorm", "m_batchnorm", net["m"])
        return net.lines

    def _add_components(self, net: Wiring) -> None:
        cells, bottleneck = self.cell_dim, self.bottleneck_dim
        first = {"input-dim": self.input.dim + cells, **self.passed("orthonormal-constraint")}
        settings = self.ng_affine_options.settings
        net.component("W_all_a", "LinearComponent", first, {"output-dim": bottleneck}, settings)
        second = affine_dims(bottleneck, 4 * cells)
        net.component("W_all_b", "LinearComponent", second, settings, self.regularization)
        net.component(
            "W_all_b_so", "ScaleAndOffsetComponent", {"dim": 4 * cells, "max-change": 0.75}
        )
        net.component(
            "lstm_nonlin",
            _NONLINEARITY,
            {"cell-dim": cells},
            self.lstm_nonlinearity_options.settings,
            self.regularization,
        )
        net.component("cm_trunc", TRUNCATION, {"dim": 2 * cells}, self.truncation)
        net.component("m_batchnorm", "BatchNormComponent", {"dim": cells})


@register("fast-lstmp-layer", "fast-lstmp-batchnorm-layer")
class FastLstmpLayer(Decaying, Regularized, Projected):
    """A projected LSTM whose gates are one component: the usual recurrent layer.

    Other layers can read its cells as `NAME.c`. With batchnorm the output is normalized, what
    the layer remembers is not.
    """

    example = (
        "name=lstm1 cell-dim=1024 recurrent-projection-dim=256 non-recurrent-projection-dim=256 "
        "decay-time=20 delay=-3"
    )
    lstm_nonlinearity_options = Extra("settings of the LSTM nonlinearity", " max-change=0.75")
    ng_affine_options = Extra("settings of the matrices", " max-change=1.5")
    dropout_proportion = gate_dropout_proportion()

    @property
    def normalized(self) -> bool:
        return self.line.word == "fast-lstmp-batchnorm-layer"

    @property
    def drops(self) -> bool:
        return self.dropout_proportion != -1.0

    def outputs(self) -> dict[str, Output]:
        main = self.output("rp_batchnorm" if self.normalized else "rp", self.projection_dim)
        cells = self.output("c", self.cell_dim)
        return {"": main, "c": cells, "c_t": cells}

    def config(self) -> list[Line]:
        net = self.wiring()
        self._add_components(net)
        cells, recurrent = self.cell_dim, self.recurrent_dim
        past = net.earlier(net["r_trunc"], self.delay)
        gates = net.node("W_all", "W_all", net.append(self.input.nodes, past))
        both = net.node("lstm_nonlin", "lstm_nonlin", self._gates_and_past_cells(net, gates))
        c = net.columns("c", both, 0, cells)
        m = net.columns("m", both, cells, cells)
        projected = net.node("rp", "W_rp", m)
        r = net.columns("r", projected, 0, recurrent)
        truncated = net.node("cr_trunc", "cr_trunc", net.append(c, r))
        net.columns("c_trunc", truncated, 0, cells)
        net.columns("r_trunc", truncated, cells, recurrent)
        if self.normalized:
            net.component("rp_batchnorm", "BatchNormComponent", {"dim": self.projection_dim})
            net.node("rp_batchnorm", "rp_batchnorm", projected)
        return net.lines

    def _gates_and_past_cells(self, net: Wiring, gates: NodeName) -> Descriptor:
        past = net.earlier(net["c_trunc"], self.delay)
        if not self.drops:
            return net.append(gates, past)
        # The mask has no input; a node must have one, and so reads itself.
        mask = net.node("dropout_mask", "dropout_mask", net["dropout_mask"])
        return net.append(gates, past, mask)

    def _add_components(self, net: Wiring) -> None:
        cells, settings = self.cell_dim, self.ng_affine_options.settings
        dims = affine_dims(self.input.dim + self.recurrent_dim, 4 * cells)
        net.component("W_all", AFFINE, dims, settings, self.regularization)
        net.component(
            "lstm_nonlin",
            _NONLINEARITY,
            {"cell-dim": cells, "use-dropout": self.drops},
            self.lstm_nonlinearity_options.settings,
            self.regularization,
        )
        net.component("cr_trunc", TRUNCATION, {"dim": cells + self.recurrent_dim}, self.truncation)
        if self.drops:
            mask = {"output-dim": 3, **self.passed("dropout-proportion")}
            net.component("dropout_mask", "DropoutMaskComponent", mask)
        dims = affine_dims(cells, self.projection_dim)
        net.component("W_rp", AFFINE, dims, settings, self.regularization)
