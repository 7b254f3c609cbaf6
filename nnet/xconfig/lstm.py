"""LSTM layers made of single gates: lstm-layer, lstmp-layer, lstmp-batchnorm-layer.

Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the connections from cells to
gates of Gers et al. 2002; the projected ones after Sak et al., "Long short-term memory based
recurrent neural network architectures for large scale acoustic modeling", Interspeech 2014.
"""

from __future__ import annotations

from typing import Any

from nnet.text.syntax import Descriptor, Line, NodeName
from nnet.xconfig.lines import Wiring
from nnet.xconfig.option import Extra
from nnet.xconfig.recurrent import (
    AFFINE,
    PRODUCT,
    SCALE,
    TRUNCATION,
    Decaying,
    Projected,
    Regularized,
    RepairedNonlinearities,
    affine_dims,
    drawn_scales,
    gate_dropout_per_frame,
    gate_dropout_proportion,
    product_dims,
)
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

_NONLINEARITIES = {
    "i": "SigmoidComponent",
    "f": "SigmoidComponent",
    "o": "SigmoidComponent",
    "g": "TanhComponent",
    "h": "TanhComponent",
}


class _Lstm(Decaying, Regularized, RepairedNonlinearities):
    """An LSTM whose gates i, f and o read the input, the recurrent connection and the cells."""

    ng_affine_options = Extra("settings of the affine components", " max-change=0.75 ")
    ng_per_element_scale_options: Extra

    @property
    def gate_dropout(self) -> dict[str, Any]:
        """Settings of the dropout of the gates after `dim`; empty for no dropout."""
        return {}

    @property
    def affine_settings(self) -> list[Any]:
        return [self.ng_affine_options.settings, self.regularization]

    def recurrent_connection(self, net: Wiring, m: NodeName) -> None:
        """Adds the node `r_t` and what is between it and the gated cells `m_t`."""
        raise NotImplementedError

    def config(self) -> list[Line]:
        net = self.wiring()
        self._add_components(net)
        cell = net.node("c_t", "c", net.sum(net["c1_t"], net["c2_t"]))
        past_cell = net.earlier(cell, self.delay)
        seen = net.append(self.input.nodes, net.earlier(net["r_t"], self.delay))
        i = self._gate(net, "i", seen, past_cell)
        f = self._gate(net, "f", seen, past_cell)
        o = self._gate(net, "o", seen, cell)
        h = net.node("h_t", "h", cell)
        g = net.node("g_t", "g", net.node("g1_t", "W_c.xr", seen))
        net.node("c1_t", "c1", net.append(f, past_cell))
        net.node("c2_t", "c2", net.append(i, g))
        self.recurrent_connection(net, net.node("m_t", "m", net.append(o, h)))
        return net.lines

    def _add_components(self, net: Wiring) -> None:
        cells = {"dim": self.cell_dim}
        affine = affine_dims(self.input.dim + self.recurrent_dim, self.cell_dim)
        scales = self.ng_per_element_scale_options
        for gate in "ifo":
            net.component(f"W_{gate}.xr", AFFINE, affine, *self.affine_settings)
            drawn = drawn_scales(scales.written)
            net.component(f"w_{gate}.c", SCALE, cells, scales.settings, drawn, self.regularization)
        net.component("W_c.xr", AFFINE, affine, *self.affine_settings)
        for name, nonlinearity in _NONLINEARITIES.items():
            net.component(name, nonlinearity, cells, self.repair)
        if self.gate_dropout:
            net.component("dropout", "DropoutComponent", cells, self.gate_dropout)
        for product in ("c1", "c2", "m"):
            net.component(product, PRODUCT, product_dims(self.cell_dim))
        net.component("c", TRUNCATION, cells, self.truncation)

    def _gate(self, net: Wiring, gate: str, seen: Descriptor, cell: Descriptor) -> NodeName:
        from_input = net.node(f"{gate}1_t", f"W_{gate}.xr", seen)
        from_cell = net.node(f"{gate}2_t", f"w_{gate}.c", cell)
        total = net.sum(from_input, from_cell)
        if not self.gate_dropout:
            return net.node(f"{gate}_t", gate, total)
        return net.node(f"{gate}_t", "dropout", net.node(f"{gate}_t_predrop", gate, total))


@register("lstm-layer")
class LstmLayer(_Lstm):
    """A long short-term memory layer with connections from the cells to the gates.

    Other layers can read its cells as `NAME.c_t`.
    """

    example = "name=lstm1 cell-dim=512 delay=-3"
    ng_per_element_scale_options = Extra(
        "settings of the diagonal matrices from cells to gates", " max-change=0.75"
    )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("m_t", self.cell_dim), "c_t": self.output("c_t", self.cell_dim)}

    def recurrent_connection(self, net: Wiring, m: NodeName) -> None:
        net.component("r", TRUNCATION, {"dim": self.cell_dim}, self.truncation)
        net.node("r_t", "r", m)


@register("lstmp-layer", "lstmp-batchnorm-layer")
class LstmpLayer(_Lstm, Projected):
    """A projected LSTM: a smaller number of columns is remembered and given out.

    Other layers can read its cells as `NAME.c_t`. With batchnorm the output is normalized, what
    the layer remembers is not.
    """

    example = (
        "name=lstm1 cell-dim=1024 recurrent-projection-dim=256 non-recurrent-projection-dim=256 "
        "delay=-3"
    )
    ng_per_element_scale_options = Extra(
        "settings of the diagonal matrices from cells to gates", " max-change=0.75 "
    )
    dropout_proportion = gate_dropout_proportion()
    dropout_per_frame = gate_dropout_per_frame(False)

    @property
    def gate_dropout(self) -> dict[str, Any]:
        if self.dropout_proportion == -1.0:
            return {}
        return self.passed("dropout-proportion", "dropout-per-frame")

    @property
    def normalized(self) -> bool:
        return self.line.word == "lstmp-batchnorm-layer"

    def outputs(self) -> dict[str, Output]:
        main = self.output("rp_t_batchnorm" if self.normalized else "rp_t", self.projection_dim)
        return {"": main, "c_t": self.output("c_t", self.cell_dim)}

    def recurrent_connection(self, net: Wiring, m: NodeName) -> None:
        dims = affine_dims(self.cell_dim, self.projection_dim)
        net.component("W_rp.m", AFFINE, dims, *self.affine_settings)
        net.component("r", TRUNCATION, {"dim": self.recurrent_dim}, self.truncation)
        projected = net.node("rp_t", "W_rp.m", m)
        net.node("r_t", "r", net.columns("r_t_preclip", projected, 0, self.recurrent_dim))
        if self.normalized:
            net.component("rp_t_batchnorm", "BatchNormComponent", {"dim": self.projection_dim})
            net.node("rp_t_batchnorm", "rp_t_batchnorm", projected)
