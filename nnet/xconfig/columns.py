"""Layers that pick, order or add columns.

dim-range-component, combine-feature-maps-layer, delta-layer.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnet.text.syntax import Append, Descriptor, Line, NodeName, Offset, Scale, Sum
from nnet.text.values import integer
from nnet.xconfig import common
from nnet.xconfig.layer import LayerWithInput
from nnet.xconfig.lines import Chain, config_line
from nnet.xconfig.option import NOT_NEGATIVE, POSITIVE, REQUIRED, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

MAX_PERMUTED = 1_000_000  # columns


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

    example = "name=part dim=20 dim-offset=10"
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


@register("combine-feature-maps-layer")
class CombineFeatureMaps(LayerWithInput):
    """Two or three images of one height, appended, as one image with all their filters.

    What comes in has all of the first image in front of the second; what comes out has all
    filters of a height side by side, as a convolution reads them.
    """

    example_dim = 80
    example = "name=combined height=40 num-filters1=1 num-filters2=1"
    height = Option(integer, REQUIRED, "height of the images", check=POSITIVE)
    num_filters1 = Option(integer, REQUIRED, "number of filters of the first", check=POSITIVE)
    num_filters2 = Option(integer, REQUIRED, "number of filters of the second", check=POSITIVE)
    num_filters3 = Option(
        integer, 0, "number of filters of the third, if there is one", check=NOT_NEGATIVE
    )

    @property
    def filters(self) -> tuple[int, int, int]:
        return self.num_filters1, self.num_filters2, self.num_filters3

    def check(self) -> None:
        total = sum(self.filters) * self.height
        if total != self.input.dim:
            raise self.wrong(
                "height",
                f"{self} of height {self.height} and {sum(self.filters)} filters has {total} "
                f"columns, but its input '{self.input.text}' has {self.input.dim}",
                expected="height * (num-filters1 + num-filters2 + num-filters3) "
                "equal to the dimension of the input",
            )
        if total > MAX_PERMUTED:
            raise self.wrong(
                "height",
                f"an image of {total} columns is too large",
                expected=f"at most {MAX_PERMUTED} columns",
            )

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.input.dim)}

    def config(self) -> list[Line]:
        chain = self.chain()
        columns = ",".join(map(str, self._columns()))
        chain.add(self.name, "PermuteComponent", {"column-map": columns})
        return chain.lines

    def _columns(self) -> Iterator[int]:
        """For each column that comes out, the column that comes in."""
        for h in range(self.height):
            start = 0
            for filters in self.filters:
                yield from range(start + h * filters, start + (h + 1) * filters)
                start += self.height * filters


@register("delta-layer")
class Delta(_OfOneNode):
    """A layer's columns with their first and second differences over time, and batchnorm.

    The first difference at frame t is x(t + 1) - x(t - 1), the second x(t + 2) - 2 x(t) + x(t - 2).
    """

    example = "name=delta"

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
