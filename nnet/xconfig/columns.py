"""Layers that pick or add columns: dim-range-component, delta-layer."""

from __future__ import annotations

from nnet.text.syntax import Append, Descriptor, Line, NodeName, Offset, Scale, Sum
from nnet.text.values import integer
from nnet.xconfig import common
from nnet.xconfig.layer import LayerWithInput
from nnet.xconfig.lines import Chain, config_line
from nnet.xconfig.option import NOT_NEGATIVE, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output


class _OfOneNode(LayerWithInput):
    """A layer that can read a layer only as it is, without an offset or a sum."""

    def check(self) -> None:
        if not isinstance(self.input.nodes, NodeName):
            raise self.wrong(
                "input",
                f"{self.line.word} cannot read the descriptor '{self.input.written}'",
                expected="the name of one layer",
                hint="put a no-op-component with this input in front",
            )

    @property
    def node(self) -> str:
        """The config node that the layer reads."""
        return self.input.nodes.name if isinstance(self.input.nodes, NodeName) else ""


@register("dim-range-component")
class DimRange(_OfOneNode):
    """Columns `dim-offset` up to `dim-offset + dim` of a layer."""

    dim = common.output_dim()
    dim_offset = Option(integer, 0, "the first column, from 0", check=NOT_NEGATIVE)

    def check(self) -> None:
        super().check()
        if self.dim_offset + self.dim > self.input.dim:
            raise self.wrong(
                "dim-offset" if self.line.get("dim-offset") else "dim",
                f"columns {self.dim_offset} to {self.dim_offset + self.dim} are asked for, but "
                f"'{self.input.text}' has only {self.input.dim}",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.dim)}

    def config(self) -> list[Line]:
        values = {"name": self.name, "input-node": self.node, **self.passed("dim", "dim-offset")}
        return [config_line("dim-range-node", values, span=self.line.span)]


@register("delta-layer")
class Delta(_OfOneNode):
    """A layer's columns with their first and second differences over time, and batchnorm.

    The first difference at frame t is x(t + 1) - x(t - 1), the second x(t + 2) - 2 x(t) + x(t - 2).
    """

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", 3 * self.input.dim)}

    def config(self) -> list[Line]:
        node, dim, span = self.node, self.input.dim, self.line.span
        copies = [
            config_line(
                "dim-range-node",
                {"name": f"{node}_copy{i}", "input-node": node, "dim": dim, "dim-offset": 0},
                span=span,
            )
            for i in (1, 2)
        ]
        chain = Chain(self._with_differences(), span)
        chain.add(f"{node}_2", "NoOpComponent", {"dim": 3 * dim})
        chain.add(self.name, "BatchNormComponent", {"dim": 3 * dim})
        return copies + chain.lines

    def _with_differences(self) -> Descriptor:
        # nnet3 allows a node only one scale within a descriptor, hence the two copies.
        span = self.line.span
        x = self.input.nodes
        minus_x = Scale(-1.0, NodeName(f"{self.node}_copy1", span=span), span=span)
        minus_2x = Scale(-2.0, NodeName(f"{self.node}_copy2", span=span), span=span)
        first = (_at(minus_x, -1), _at(x, 1))
        second = (_at(x, -2), _at(x, 2), _at(minus_2x, 0))
        parts = (_at(x, 0), Sum(first, span=span), Sum(second, span=span))
        return Append(parts, span=span)


def _at(source: Descriptor, t: int) -> Descriptor:
    return Offset(source, t, span=source.span)
