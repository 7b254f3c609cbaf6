"""Random networks of all component types and descriptors, from a seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nnet.graph.network import Network
from nnet.plan.request import Request, TimeRange
from tests.random_components import KINDS, Made
from tests.support import network_from

TYPES = sorted(KINDS)
INPUT_DIMS = {"input": 5, "ivector": 3}
REQUEST = Request.of(
    {"input": TimeRange(-80, 166), "ivector": TimeRange(0, 1)}, {"output": TimeRange(-2, 4, 3)}
)
"""For networks of `random_network`, whose frames may reach far."""

DEFINED = (-200, -79, -78, 3, 77, 78, 200)
"""Offsets from nowhere defined over partly defined to defined: the input ends at 85."""


_STATISTICS = ("", "output-stddevs=true", "num-log-count-features=2 output-stddevs=true")


class _Writer:
    """Writes config lines; keeps the nodes made so far with their dimensions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.lines = [f"input-node name={name} dim={dim}" for name, dim in INPUT_DIMS.items()]
        self.dims = {"input": INPUT_DIMS["input"]}

    def choice(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def scale(self) -> str:
        return f"{self.rng.normal():.3f}"

    # Descriptors: text and dimension

    def descriptor(self) -> tuple[str, int]:
        """What a node may read."""
        terms = [self.term() for _ in range(self.number(1, 3))]
        if self.rng.random() < 0.3:
            terms.append(("ReplaceIndex(Scale(0.5, ivector), t, 0)", INPUT_DIMS["ivector"]))
        texts = [text for text, _ in terms]
        together = f"Append({', '.join(texts)})" if len(texts) > 1 else texts[0]
        return together, sum(dim for _, dim in terms)

    def term(self, depth: int = 0) -> tuple[str, int]:
        """A random descriptor, nested up to three deep."""
        if depth == 3 or self.rng.random() < 0.25:
            name = self.choice(sorted(self.dims))
            return name, self.dims[name]
        kinds = [self._moved, self._scaled, self._sum, self._where_defined, self._switch, self._x]
        if depth:
            kinds.append(self._append)
        return self.choice(kinds)(depth + 1)

    def _moved(self, depth: int) -> tuple[str, int]:
        text, dim = self.term(depth)
        kind = self.choice(("Offset", "Offset", "Round", "ReplaceIndex"))
        if kind == "Offset":
            return f"Offset({text}, {self.number(-3, 3)})", dim
        if kind == "Round":
            return f"Round({text}, {self.number(2, 3)})", dim
        return f"ReplaceIndex({text}, t, {self.number(-2, 2)})", dim

    def _x(self, depth: int) -> tuple[str, int]:
        """Along x, of which the inputs have 0 alone."""
        text, dim = self.term(depth)
        if self.rng.random() < 0.5:
            return f"ReplaceIndex({text}, x, 0)", dim
        return f"IfDefined(Offset({text}, {self.number(-1, 1)}, {self.number(-1, 1)}))", dim

    def _scaled(self, depth: int) -> tuple[str, int]:
        text, dim = self.term(depth)
        return f"Scale({self.scale()}, {text})", dim

    def _append(self, depth: int) -> tuple[str, int]:
        (first, a), (second, b) = self.term(depth), self.term(depth)
        return f"Append({first}, {second})", a + b

    def _other(self, text: str, dim: int) -> str:
        """Another descriptor of the same dimension: the same at another time, or a constant."""
        constant = f"Const({self.scale()}, {dim})"
        again = f"Offset({text}, {self.number(-2, 2)})"
        return self.choice([text, constant, again, f"Scale({self.scale()}, {text})"])

    def _sum(self, depth: int) -> tuple[str, int]:
        text, dim = self.term(depth)
        others = ", ".join(self._other(text, dim) for _ in range(self.number(1, 2)))
        return f"Sum({text}, {others})", dim

    def _switch(self, depth: int) -> tuple[str, int]:
        text, dim = self.term(depth)
        others = ", ".join(self._other(text, dim) for _ in range(self.number(0, 2)))
        return f"Switch({text}{', ' if others else ''}{others})", dim

    def _where_defined(self, depth: int) -> tuple[str, int]:
        text, dim = self.term(depth)
        far = f"Offset({text}, {self.choice(DEFINED)})"
        if self.rng.random() < 0.5:
            return f"IfDefined({far})", dim
        return f"Failover({far}, {self._other(text, dim)})", dim

    # Nodes

    def node(self, name: str, kind: str, made: Made, read: str) -> None:
        self.lines.append(f"component name={name} type={kind} {made.settings}")
        self.lines.append(f"component-node name={name} component={name} input={read}")
        self.dims[name] = made.output_dim

    def some_node(self, number: int) -> None:
        kinds = [self.component, self.component, self.tdnnf, self.dim_range, self.statistics]
        self.choice(kinds)(number)

    def component(self, number: int) -> None:
        """A random component on a random descriptor, through an affine one if dims differ."""
        self.of_kind(number, self.choice(TYPES))

    def of_kind(self, number: int, kind: str) -> None:
        read, dim = self.descriptor()
        made = self.choice(KINDS[kind])(dim, self.rng)
        if made.reads_itself:
            read = f"c{number}"
        elif made.input_dim != dim:
            adapter = Made(f"input-dim={dim} output-dim={made.input_dim}", dim, made.input_dim)
            self.node(f"a{number}", "AffineComponent", adapter, read)
            read = f"a{number}"
        self.node(f"c{number}", kind, made, read)

    def dim_range(self, number: int) -> None:
        source = self.choice([n for n in sorted(self.dims) if not n.startswith("d")])
        offset = int(self.rng.integers(self.dims[source]))
        dim = self.number(1, self.dims[source] - offset)
        self.lines.append(
            f"dim-range-node name=d{number} input-node={source} dim-offset={offset} dim={dim}"
        )
        self.dims[f"d{number}"] = dim

    def tdnnf(self, number: int) -> None:
        """A factored layer with its bypass, so that folding and fusion have something to do."""
        source = self.choice(sorted(self.dims))
        dim, stride = self.dims[source], self.number(1, 3)
        f = f"f{number}"
        for suffix, kind, settings, read in (
            ("l", "Tdnn", f"input-dim={dim} output-dim=2 time-offsets=-{stride},0", source),
            ("a", "Tdnn", f"input-dim=2 output-dim={dim} time-offsets=0,{stride}", f"{f}l"),
            ("r", "RectifiedLinear", f"dim={dim}", f"{f}a"),
            ("b", "BatchNorm", f"dim={dim}", f"{f}r"),
            ("n", "NoOp", f"dim={dim}", f"Sum(Scale(0.66, {source}), {f}b)"),
        ):
            out = 2 if suffix == "l" else dim
            self.node(f"{f}{suffix}", f"{kind}Component", Made(settings, 0, out), read)
        for suffix in "larb":
            del self.dims[f"{f}{suffix}"]

    def loop(self, number: int) -> None:
        """A recurrent layer: one or two delays, perhaps through a dim-range or a second loop."""
        name, size = f"r{number}", 3
        given, dim = self.term()
        sign = self.choice((-1, 1))
        kind = self.choice(("plain", "two delays", "part", "inner"))
        back = {"part": f"p{number}", "inner": f"i{number}"}.get(kind, name)
        width = 2 if kind == "part" else size
        delays = [sign * self.number(1, 3) for _ in range(2 if kind == "two delays" else 1)]
        state = ", ".join(self._delayed(back, delay, width) for delay in delays)
        dim += INPUT_DIMS["input"] + width * len(delays)
        # reading the input bounds the loop in time
        self._affine_tanh(name, f"Append({given}, input, {state})", dim)
        if kind == "part":
            self.lines.append(
                f"dim-range-node name={back} input-node={name} dim-offset=1 dim={width}"
            )
        if kind == "inner":
            inner = self._delayed(back, sign * self.number(1, 2), size)
            self._affine_tanh(back, f"Append({name}, {inner})", 2 * size)

    def _delayed(self, name: str, delay: int, dim: int) -> str:
        """A node's value some frames before; where it is not defined, zeros or a constant."""
        moved = f"Offset({name}, {delay})"
        scaled = f"Scale(0.5, {moved})"
        return self.choice(
            [f"IfDefined({moved})", f"IfDefined({scaled})", f"Failover({moved}, Const(0.3, {dim}))"]
        )

    def _affine_tanh(self, name: str, read: str, dim: int) -> None:
        affine = Made(f"input-dim={dim} output-dim=3", dim, 3)
        self.node(f"{name}a", "NaturalGradientAffineComponent", affine, read)
        self.node(name, "TanhComponent", Made("dim=3", 3, 3), f"{name}a")

    def statistics(self, number: int) -> None:
        """Statistics pooled over a window; they are there at multiples of a period."""
        read, dim = self.term()
        period, left, right = self.number(1, 3), self.number(0, 3), self.number(1, 3)
        out = 2 * dim + 1
        extraction = f"input-dim={dim} output-period={period}"
        window = f"left-context={left * period} right-context={right * period}"
        pooling = f"input-dim={out} input-period={period} {window} {self.choice(_STATISTICS)}"
        made = Made(pooling, out, 2 * dim + (2 if "log-count" in pooling else 0))
        self.node(f"e{number}", "StatisticsExtractionComponent", Made(extraction, dim, out), read)
        self.node(f"q{number}", "StatisticsPoolingComponent", made, f"e{number}")
        noop = Made(f"dim={made.output_dim}", made.output_dim, made.output_dim)
        self.node(f"s{number}", "NoOpComponent", noop, f"Round(q{number}, {period})")
        del self.dims[f"e{number}"], self.dims[f"q{number}"]

    def network(self, seed: int) -> Network:
        """The network whose output is a random descriptor of all this."""
        text, _ = self.descriptor()
        lines = [*self.lines, f"output-node name=output input={text}"]
        network = network_from("\n".join(lines), seed)
        components = {n: _filled(spec, self.rng) for n, spec in network.components.items()}
        return dataclasses.replace(network, components=components)


def random_network(seed: int) -> Network:
    """A network of a handful of nodes; batch-norm and scales have random contents."""
    writer = _Writer(np.random.default_rng(seed))
    writer.of_kind(0, TYPES[seed % len(TYPES)])
    for number in range(1, writer.number(2, 5)):
        writer.some_node(number)
    return writer.network(seed)


def random_recurrent_network(seed: int) -> Network:
    """A network with one or two loops, side by side or one after the other."""
    writer = _Writer(np.random.default_rng(seed))
    for number in range(writer.number(2, 4)):
        if number < 2:
            writer.loop(number)
        else:
            writer.some_node(number)
    return writer.network(seed)


def _filled(spec: Any, rng: np.random.Generator) -> Any:
    """The component with random statistics and scales where new ones are all alike."""
    if spec.type_name == "BatchNormComponent":
        mean, variance = rng.normal(size=spec.block_dim), rng.uniform(0.2, 2, spec.block_dim)
        return dataclasses.replace(
            spec,
            count=100.0,
            stats_mean=mean.astype(np.float32),
            stats_var=variance.astype(np.float32),
        )
    if spec.type_name == "ScaleAndOffsetComponent":
        scales = rng.normal(size=len(spec.scales)).astype(np.float32)
        return dataclasses.replace(spec, scales=scales)
    return spec
