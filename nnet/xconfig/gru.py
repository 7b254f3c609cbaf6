"""Gated recurrent layers made of single gates: the gru, pgru and opgru families.

Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
translation", EMNLP 2014. The projected layers remember and give out a projection; the opgru
layers have an output gate in place of the reset gate; the norm layers normalize the projection.
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

PROJECTED_EXAMPLE = (
    "name=gru1 cell-dim=1024 recurrent-projection-dim=256 non-recurrent-projection-dim=256 delay=-3"
)


class Gru(RepairedNonlinearities):
    """A layer with an update gate z and one more gate, reset r or output o."""

    ng_affine_options = Extra("settings of the affine components", " max-change=0.75 ")
    ng_per_element_scale_options = Extra(
        "settings of the diagonal matrix, which only the opgru layers have", " max-change=0.75 "
    )

    @property
    def affine_settings(self) -> list[Any]:
        """Settings of an affine component after its dimensions."""
        return [self.ng_affine_options.settings]

    def seen(self, net: Wiring) -> Descriptor:
        """The input and what the layer remembers of its output, side by side."""
        return net.append(self.input.nodes, net.earlier(net["s_t"], self.delay))

    def gate(self, net: Wiring, gate: str, component: str, *, drop: str = "") -> NodeName:
        """The node `z_t` for the gate z.

        Args:
            net: where the nodes go.
            gate: its letter.
            component: the affine component of what it sees.
            drop: the dropout component behind it, if there is one.
        """
        nonlinearity_input = net.node(f"{gate}_t_pre", component, self.seen(net))
        if not drop:
            return net.node(f"{gate}_t", gate, nonlinearity_input)
        before = net.node(self.undropped_name(gate), gate, nonlinearity_input)
        return net.node(f"{gate}_t", drop, before)

    def undropped_name(self, gate: str) -> str:
        return f"{gate}_predrop_t"

    def add_update(self, net: Wiring, h: NodeName, z: NodeName, past: NodeName) -> NodeName:
        """The node `y_t` = (1 - z) h + z past: where the update gate z is open, nothing changes."""
        net.node("y1_t", "y1", net.append(h, net.one_minus(z, self.cell_dim)))
        net.node("y2_t", "y2", net.append(net.earlier(past, self.delay), z))
        return net.node("y_t", "y", net.sum(net["y1_t"], net["y2_t"]))

    def add_nonlinearities(self, net: Wiring, gate: str, gate_dim: int) -> None:
        cells = {"dim": self.cell_dim}
        net.component("z", "SigmoidComponent", cells, self.repair)
        net.component(gate, "SigmoidComponent", {"dim": gate_dim}, self.repair)
        net.component("h", "TanhComponent", cells, self.repair)

    def add_products(self, net: Wiring, first: str, first_dim: int) -> None:
        net.component(first, PRODUCT, product_dims(first_dim))
        net.component("y1", PRODUCT, product_dims(self.cell_dim))
        net.component("y2", PRODUCT, product_dims(self.cell_dim))
        net.component("y", "NoOpComponent", {"dim": self.cell_dim})


class ProjectedGru(Gru, Projected):
    """A layer that remembers and gives out a projection of its cells."""

    def outputs(self) -> dict[str, Output]:
        return {
            "": self.output("sn_t", self.projection_dim),
            "h_t": self.output("h_t", self.cell_dim),
        }

    def add_projection(self, net: Wiring) -> None:
        """The components of the projection and of the truncation behind it."""
        dims = affine_dims(self.cell_dim, self.projection_dim)
        net.component("W_s.ys", AFFINE, dims, *self.affine_settings)
        net.component("s_r", TRUNCATION, {"dim": self.recurrent_dim}, self.truncation)

    def give_out(self, net: Wiring, cells: NodeName) -> None:
        """The projection, which is the output, and the part of it that is remembered."""
        self.add_projection(net)
        projected = net.node("sn_t", "W_s.ys", cells)
        net.node("s_t", "s_r", net.columns("s_t_preclip", projected, 0, self.recurrent_dim))


class DroppedGru(ProjectedGru):
    """A projected layer with dropout of its gates and a normalized projection."""

    dropout_proportion = gate_dropout_proportion()
    dropout_per_frame = gate_dropout_per_frame(True)

    @property
    def drops(self) -> bool:
        return self.dropout_proportion != -1.0

    def add_dropout(self, net: Wiring, name: str, dim: int) -> None:
        settings = self.passed("dropout-proportion", "dropout-per-frame")
        net.component(name, "DropoutComponent", {"dim": dim}, settings)

    def add_normalization(self, net: Wiring) -> None:
        """The components that normalize the output and what is remembered."""
        rms = {"target-rms": 1.0}
        net.component("batchnorm", "BatchNormComponent", {"dim": self.projection_dim}, rms)
        net.component("renorm", "NormalizeComponent", {"dim": self.recurrent_dim}, rms)


class _ResetGru(Gru):
    """A layer whose candidate h reads what it remembers through the reset gate r."""

    def add_matrices(self, net: Wiring) -> None:
        source, cells = self.input.dim + self.recurrent_dim, self.cell_dim
        for name, dim in (("W_z.xs_z", cells), ("W_z.xs_r", self.recurrent_dim), ("W_h.UW", cells)):
            net.component(name, AFFINE, affine_dims(source, dim), *self.affine_settings)

    def add_candidate(self, net: Wiring, r: NodeName) -> NodeName:
        """The node `h_t`."""
        h1 = net.node("h1_t", "h1", net.append(r, net.earlier(net["s_t"], self.delay)))
        return net.node("h_t", "h", net.node("h_t_pre", "W_h.UW", net.append(self.input.nodes, h1)))


@register("gru-layer")
class GruLayer(_ResetGru):
    """A gated recurrent layer."""

    example = "name=gru1 cell-dim=512 delay=-3"
    ng_per_element_scale_options = Extra("accepted and not used", " max-change=0.75")

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("s_t", self.cell_dim)}

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_matrices(net)
        self.add_nonlinearities(net, "r", self.cell_dim)
        self.add_products(net, "h1", self.cell_dim)
        z = self.gate(net, "z", "W_z.xs_z")
        r = self.gate(net, "r", "W_z.xs_r")
        y = self.add_update(net, self.add_candidate(net, r), z, net["s_t"])
        net.component("s_r", TRUNCATION, {"dim": self.cell_dim}, self.truncation)
        net.node("s_t", "s_r", y)
        return net.lines


@register("pgru-layer")
class PgruLayer(_ResetGru, ProjectedGru):
    """A projected gated recurrent layer. Other layers can read its candidate as `NAME.h_t`."""

    example = PROJECTED_EXAMPLE

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_matrices(net)
        self.add_nonlinearities(net, "r", self.recurrent_dim)
        self.add_products(net, "h1", self.recurrent_dim)
        z = self.gate(net, "z", "W_z.xs_z")
        r = self.gate(net, "r", "W_z.xs_r")
        self.give_out(net, self.add_update(net, self.add_candidate(net, r), z, net["y_t"]))
        return net.lines


@register("norm-pgru-layer")
class NormPgruLayer(_ResetGru, DroppedGru):
    """A projected gated recurrent layer whose projection is normalized.

    The output by batchnorm, what the layer remembers by renorm. Other layers can read its
    candidate as `NAME.h_t`.
    """

    example = PROJECTED_EXAMPLE + " dropout-proportion=0.0"

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_matrices(net)
        if self.drops:
            self.add_dropout(net, "dropout_z", self.cell_dim)
            self.add_dropout(net, "dropout_r", self.recurrent_dim)
        self.add_nonlinearities(net, "r", self.recurrent_dim)
        self.add_products(net, "h1", self.recurrent_dim)
        z = self.gate(net, "z", "W_z.xs_z", drop="dropout_z" if self.drops else "")
        r = self.gate(net, "r", "W_z.xs_r", drop="dropout_r" if self.drops else "")
        y = self.add_update(net, self.add_candidate(net, r), z, net["y_t"])
        self.add_projection(net)
        self.add_normalization(net)
        projected = net.node("sn_nobatchnorm_t", "W_s.ys", y)
        remembered = net.columns("s_t_preclip", projected, 0, self.recurrent_dim)
        net.node("sn_t", "batchnorm", projected)
        net.node("s_t", "s_r", net.node("s_renorm_t", "renorm", remembered))
        return net.lines


class _OutputGru(ProjectedGru):
    """A layer whose candidate h reads its cells, and whose output gate o opens on the output."""

    def add_matrices(self, net: Wiring) -> None:
        source, cells = self.input.dim + self.recurrent_dim, self.cell_dim
        for name in ("W_z.xs_z", "W_z.xs_o"):
            net.component(name, AFFINE, affine_dims(source, cells), *self.affine_settings)
        net.component("W_h.UW", AFFINE, affine_dims(self.input.dim, cells), *self.affine_settings)
        scales = self.ng_per_element_scale_options
        drawn = drawn_scales(scales.written)
        net.component("W_h.UW_elementwise", SCALE, {"dim": cells}, scales.settings, drawn)

    def add_candidate(self, net: Wiring) -> NodeName:
        """The node `h_t`."""
        net.node("h_t_pre", "W_h.UW", self.input.nodes)
        net.node("h_t_pre2", "W_h.UW_elementwise", net.earlier(net["y_t"], self.delay))
        return net.node("h_t", "h", net.sum(net["h_t_pre"], net["h_t_pre2"]))

    def add_cells(self, net: Wiring, drop: str = "") -> NodeName:
        """The gates, the candidate, and the cells behind the output gate."""
        z = self.gate(net, "z", "W_z.xs_z", drop=drop)
        o = self.gate(net, "o", "W_z.xs_o", drop=drop)
        y = self.add_update(net, self.add_candidate(net), z, net["y_t"])
        return net.node("y_o_t", "o1", net.append(o, y))


@register("opgru-layer")
class OpgruLayer(_OutputGru):
    """A projected gated recurrent layer with an output gate instead of a reset gate.

    Other layers can read its candidate as `NAME.h_t`.
    """

    example = PROJECTED_EXAMPLE

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_matrices(net)
        self.add_nonlinearities(net, "o", self.cell_dim)
        self.add_products(net, "o1", self.cell_dim)
        self.give_out(net, self.add_cells(net))
        return net.lines


@register("norm-opgru-layer")
class NormOpgruLayer(_OutputGru, DroppedGru, Regularized):
    """An opgru-layer whose projection is normalized.

    The output by batchnorm, what the layer remembers by renorm. Other layers can read its
    candidate as `NAME.h_t`.
    """

    example = PROJECTED_EXAMPLE + " dropout-proportion=0.0"

    @property
    def affine_settings(self) -> list[Any]:
        return [*super().affine_settings, self.regularization]

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_matrices(net)
        self.add_nonlinearities(net, "o", self.cell_dim)
        self.add_products(net, "o1", self.cell_dim)
        if self.drops:
            self.add_dropout(net, "dropout", self.cell_dim)
        cells = self.add_cells(net, "dropout" if self.drops else "")
        self.add_projection(net)
        self.add_normalization(net)
        projected = net.node("sn_nobatchnorm_t", "W_s.ys", cells)
        net.node("sn_t", "batchnorm", projected)
        remembered = net.columns("s_t_preclip", projected, 0, self.recurrent_dim)
        net.node("s_t", "s_r", net.node("s_t_preclip_renorm", "renorm", remembered))
        return net.lines
