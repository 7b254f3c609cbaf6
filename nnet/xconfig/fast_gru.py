"""Gated recurrent layers around one nonlinearity component: the fast-gru family.

GruNonlinearityComponent and OutputGruNonlinearityComponent give the candidate h and the cells c;
with a diagonal matrix where `nnet.xconfig.gru` has a full one.
"""

from __future__ import annotations

from nnet.text.syntax import Line, NodeName
from nnet.xconfig.gru import PROJECTED_EXAMPLE, DroppedGru, Gru, ProjectedGru
from nnet.xconfig.lines import Wiring
from nnet.xconfig.option import Extra
from nnet.xconfig.recurrent import AFFINE, PRODUCT, TRUNCATION, affine_dims, product_dims
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


class _FastGru(Gru):
    """A layer around one nonlinearity component."""

    gru_nonlinearity_options = Extra("settings of the GRU nonlinearity", " max-change=0.75")
    ng_per_element_scale_options = Extra("accepted and not used", " max-change=0.75 ")

    def undropped_name(self, gate: str) -> str:
        return f"{gate}_t_predrop"

    def add_gates(self, net: Wiring, letters: str, suffix: str, dims: list[int]) -> None:
        """The matrices of the two gates and of the candidate, and the gates' nonlinearities."""
        source = self.input.dim + self.recurrent_dim
        settings = self.ng_affine_options.settings
        for letter, dim in zip(letters, dims, strict=True):
            net.component(f"W_{letter}.{suffix}", AFFINE, affine_dims(source, dim), settings)
        candidate = affine_dims(self.input.dim, self.cell_dim)
        net.component("W_hpart.x", AFFINE, candidate, settings)
        for letter, dim in zip(letters, dims, strict=True):
            net.component(letter, "SigmoidComponent", {"dim": dim}, self.repair)

    def add_candidate(self, net: Wiring) -> NodeName:
        return net.node("hpart_t", "W_hpart.x", self.input.nodes)


@register("fast-gru-layer")
class FastGruLayer(_FastGru):
    """A gated recurrent layer around one nonlinearity component."""

    example = "name=gru1 cell-dim=512 delay=-3"
    ng_per_element_scale_options = Extra("accepted and not used", " max-change=0.75")

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("y_t", self.cell_dim)}

    def config(self) -> list[Line]:
        net = self.wiring()
        cells = self.cell_dim
        self.add_gates(net, "zr", "xh", [cells, cells])
        z = self.gate(net, "z", "W_z.xh")
        r = self.gate(net, "r", "W_r.xh")
        candidate = self.add_candidate(net)
        settings = self.gru_nonlinearity_options.settings
        net.component("gru_nonlin", "GruNonlinearityComponent", {"cell-dim": cells}, settings)
        past = net.earlier(net["s_t"], self.delay)
        both = net.node("gru_nonlin_t", "gru_nonlin", net.append(z, r, candidate, past))
        output = net.columns("y_t", both, cells, cells)
        net.component("s_r", TRUNCATION, {"dim": cells}, self.truncation)
        net.node("s_t", "s_r", output)
        return net.lines


class _FastProjectedGru(_FastGru, ProjectedGru):
    """A projected layer; its cells are `NAME.c_t`."""

    def outputs(self) -> dict[str, Output]:
        return {
            "": self.output("y_t", self.projection_dim),
            "c_t": self.output("c_t", self.cell_dim),
        }

    def add_remembered(self, net: Wiring, name: str, projected: NodeName) -> None:
        """The truncation and the part of the output that is remembered."""
        net.component("s_r", TRUNCATION, {"dim": self.recurrent_dim}, self.truncation)
        net.node("s_t", "s_r", net.columns(name, projected, 0, self.recurrent_dim))

    def add_normalized(self, net: Wiring, projected: NodeName) -> None:
        """Renorm in front of what is remembered, batchnorm in front of the output."""
        recurrent, rms = {"dim": self.recurrent_dim}, {"target-rms": 1.0}
        net.component("renorm", "NormalizeComponent", recurrent, rms)
        net.component("s_r", TRUNCATION, recurrent, self.truncation)
        remembered = net.columns("s_t_pre", projected, 0, self.recurrent_dim)
        net.node("s_t", "s_r", net.node("s_t_renorm", "renorm", remembered))
        net.component("batchnorm", "BatchNormComponent", {"dim": self.projection_dim}, rms)
        net.node("y_t", "batchnorm", projected)


class _FastReset(_FastProjectedGru):
    """A projected layer with a reset gate."""

    def add_cells(self, net: Wiring, z: NodeName, r: NodeName) -> NodeName:
        candidate = self.add_candidate(net)
        dims = {"cell-dim": self.cell_dim, "recurrent-dim": self.recurrent_dim}
        settings = self.gru_nonlinearity_options.settings
        net.component("gru_nonlin", "GruNonlinearityComponent", dims, settings)
        past_cells = net.earlier(net["c_t"], self.delay)
        past = net.earlier(net["s_t"], self.delay)
        sources = net.append(z, r, candidate, past_cells, past)
        both = net.node("gru_nonlin_t", "gru_nonlin", sources)
        return net.columns("c_t", both, self.cell_dim, self.cell_dim)

    def add_output(self, net: Wiring, name: str, cells: NodeName) -> NodeName:
        dims = affine_dims(self.cell_dim, self.projection_dim)
        net.component("W_y.c", AFFINE, dims, self.ng_affine_options.settings)
        return net.node(name, "W_y.c", cells)


@register("fast-pgru-layer")
class FastPgruLayer(_FastReset):
    """A projected gated recurrent layer around one nonlinearity component.

    Other layers can read its cells as `NAME.c_t`.
    """

    example = PROJECTED_EXAMPLE

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_gates(net, "zr", "xs", [self.cell_dim, self.recurrent_dim])
        z, r = self.gate(net, "z", "W_z.xs"), self.gate(net, "r", "W_r.xs")
        cells = self.add_cells(net, z, r)
        self.add_remembered(net, "s_t_pre", self.add_output(net, "y_t", cells))
        return net.lines


@register("fast-norm-pgru-layer")
class FastNormPgruLayer(_FastReset, DroppedGru):
    """A fast-pgru-layer whose projection is normalized.

    The output by batchnorm, what the layer remembers by renorm. Other layers can read its cells
    as `NAME.c_t`.
    """

    example = PROJECTED_EXAMPLE + " dropout-proportion=0.0"

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_gates(net, "zr", "xs", [self.cell_dim, self.recurrent_dim])
        if self.drops:
            self.add_dropout(net, "dropout_z", self.cell_dim)
            self.add_dropout(net, "dropout_r", self.recurrent_dim)
        z = self.gate(net, "z", "W_z.xs", drop="dropout_z" if self.drops else "")
        r = self.gate(net, "r", "W_r.xs", drop="dropout_r" if self.drops else "")
        cells = self.add_cells(net, z, r)
        self.add_normalized(net, self.add_output(net, "y_t_tmp", cells))
        return net.lines


class _FastOutput(_FastProjectedGru):
    """A projected layer with an output gate."""

    def add_cells(self, net: Wiring, z: NodeName) -> NodeName:
        candidate = self.add_candidate(net)
        settings = self.gru_nonlinearity_options.settings
        dims = {"cell-dim": self.cell_dim}
        net.component("gru_nonlin", "OutputGruNonlinearityComponent", dims, settings)
        past_cells = net.earlier(net["c_t"], self.delay)
        both = net.node("gru_nonlin_t", "gru_nonlin", net.append(z, candidate, past_cells))
        return net.columns("c_t", both, self.cell_dim, self.cell_dim)

    def add_output(self, net: Wiring, name: str, cells: NodeName, o: NodeName) -> NodeName:
        net.component("cdoto", PRODUCT, product_dims(self.cell_dim))
        gated = net.node("cdoto", "cdoto", net.append(cells, o))
        dims = affine_dims(self.cell_dim, self.projection_dim)
        net.component("W_y.cdoto", AFFINE, dims, self.ng_affine_options.settings)
        return net.node(name, "W_y.cdoto", gated)


@register("fast-opgru-layer")
class FastOpgruLayer(_FastOutput):
    """An opgru-layer around one nonlinearity component.

    Other layers can read its cells as `NAME.c_t`.
    """

    example = PROJECTED_EXAMPLE

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_gates(net, "zo", "xs", [self.cell_dim, self.cell_dim])
        z, o = self.gate(net, "z", "W_z.xs"), self.gate(net, "o", "W_o.xs")
        cells = self.add_cells(net, z)
        self.add_remembered(net, "s_t_preclip", self.add_output(net, "y_t", cells, o))
        return net.lines


@register("fast-norm-opgru-layer")
class FastNormOpgruLayer(_FastOutput, DroppedGru):
    """A fast-opgru-layer whose projection is normalized.

    The output by batchnorm, what the layer remembers by renorm. Other layers can read its cells
    as `NAME.c_t`.
    """

    example = PROJECTED_EXAMPLE + " dropout-proportion=0.0"

    def config(self) -> list[Line]:
        net = self.wiring()
        self.add_gates(net, "zo", "xs", [self.cell_dim, self.cell_dim])
        drop = "dropout" if self.drops else ""
        if self.drops:
            self.add_dropout(net, drop, self.cell_dim)
        z = self.gate(net, "z", "W_z.xs", drop=drop)
        o = self.gate(net, "o", "W_o.xs", drop=drop)
        cells = self.add_cells(net, z)
        self.add_normalized(net, self.add_output(net, "y_t_tmp", cells, o))
        return net.lines
