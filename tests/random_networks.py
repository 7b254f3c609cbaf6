"""Random networks of the component types and descriptors there are, from a seed."""

from __future__ import annotations

import dataclasses

import numpy as np

from nnet.graph.network import Network
from tests.support import network_from


class _Writer:
    """Writes config lines; keeps the nodes made so far with their dimensions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.lines = ["input-node name=input dim=5", "input-node name=ivector dim=3"]
        self.nodes = {"input": 5}

    def choice(self, options):
        return options[int(self.rng.integers(len(options)))]

    def name(self) -> str:
        return self.choice(sorted(self.nodes))

    def offset(self) -> int:
        return int(self.rng.integers(-3, 4))

    def term(self, name: str, depth: int = 0) -> str:
        """A descriptor of node `name`'s dimension."""
        kinds = ["node", "offset", "scale", "round", "sum", "ifdefined", "failover", "switch"]
        match self.choice(kinds if depth < 2 else kinds[:3]):
            case "offset":
                return f"Offset({self.term(name, depth + 1)}, {self.offset()})"
            case "scale":
                return f"Scale({self.rng.normal():.3f}, {self.term(name, depth + 1)})"
            case "round":
                return f"Round({self.term(name, depth + 1)}, {int(self.rng.integers(2, 4))})"
            case "sum":
                constant = f"Const({self.rng.normal():.3f}, {self.nodes[name]})"
                return f"Sum({self.term(name, depth + 1)}, {name}, {constant})"
            case "ifdefined":
                return f"IfDefined(Offset({name}, {self.choice([-40, -8, 2, 40])}))"
            case "failover":
                return f"Failover(Offset({name}, -40), {self.term(name, depth + 1)})"
            case "switch":
                return f"Switch({self.term(name, depth + 1)}, {name})"
        return name

    def descriptor(self) -> tuple[str, int]:
        names = [self.name() for _ in range(int(self.rng.integers(1, 4)))]
        parts = [self.term(name) for name in names]
        dim = sum(self.nodes[name] for name in names)
        if self.rng.random() < 0.4:
            parts.append("ReplaceIndex(Scale(0.5, ivector), t, 0)")
            dim += 3
        return (f"Append({', '.join(parts)})" if len(parts) > 1 else parts[0]), dim

    def component(self, number: int) -> None:
        """One more component on a random descriptor, sometimes with a bypass around it."""
        text, dim = self.descriptor()
        name = f"c{number}"
        kind, settings, output_dim = self.choice(_kinds(dim, self))
        self.lines.append(f"component name={name} type={kind}Component {settings}")
        self.lines.append(f"component-node name={name} component={name} input={text}")
        self.nodes[name] = output_dim

    def dim_range(self, number: int) -> None:
        source = self.choice([n for n, dim in self.nodes.items() if not n.startswith("d")])
        offset = int(self.rng.integers(self.nodes[source]))
        dim = int(self.rng.integers(1, self.nodes[source] - offset + 1))
        self.lines.append(
            f"dim-range-node name=d{number} input-node={source} dim-offset={offset} dim={dim}"
        )
        self.nodes[f"d{number}"] = dim

    def tdnnf(self, number: int) -> None:
        """A factored layer with its bypass, so that folding and fusion have something to do."""
        source = self.name()
        dim, stride = self.nodes[source], int(self.rng.integers(1, 4))
        f = f"f{number}"
        for suffix, kind, settings, read in (
            ("l", "Tdnn", f"input-dim={dim} output-dim=2 time-offsets=-{stride},0", source),
            ("a", "Tdnn", f"input-dim=2 output-dim={dim} time-offsets=0,{stride}", f"{f}l"),
            ("r", "RectifiedLinear", f"dim={dim}", f"{f}a"),
            ("b", "BatchNorm", f"dim={dim}", f"{f}r"),
            ("n", "NoOp", f"dim={dim}", f"Sum(Scale(0.66, {source}), {f}b)"),
        ):
            name = f"{f}{suffix}"
            self.lines.append(f"component name={name} type={kind}Component {settings}")
            self.lines.append(f"component-node name={name} component={name} input={read}")
        self.nodes[f"{f}n"] = dim


def _kinds(dim: int, writer: _Writer) -> list[tuple[str, str, int]]:
    out = int(writer.rng.integers(1, 7))
    same = f"dim={dim}"
    wide = f"input-dim={dim} output-dim={out}"
    permutation = ",".join(str(i) for i in writer.rng.permutation(dim))
    kinds = [
        ("Affine", wide, out),
        ("NaturalGradientAffine", wide, out),
        ("Linear", wide, out),
        ("FixedAffine", wide, out),
        ("Tdnn", f"{wide} time-offsets=-2,0,1", out),
        ("Tdnn", f"{wide} time-offsets=-3 use-bias=false", out),
        ("Sigmoid", same, dim),
        ("Tanh", same, dim),
        ("RectifiedLinear", same, dim),
        ("LogSoftmax", same, dim),
        ("Softmax", same, dim),
        ("BatchNorm", f"{same} target-rms=0.7", dim),
        ("Normalize", f"input-dim={dim} add-log-stddev=true", dim + 1),
        ("NoOp", same, dim),
        ("Dropout", f"{same} dropout-proportion=0.25", dim),
        ("ScaleAndOffset", same, dim),
        ("FixedScale", same, dim),
        ("FixedBias", same, dim),
        ("PerElementOffset", same, dim),
        ("Permute", f"column-map={permutation}", dim),
    ]
    if dim % 2 == 0:
        kinds.append(("Pnorm", f"input-dim={dim} output-dim={dim // 2}", dim // 2))
    return kinds


def random_network(seed: int) -> Network:
    """A network of a handful of nodes; batch-norm and scales have random contents."""
    rng = np.random.default_rng(seed)
    writer = _Writer(rng)
    for number in range(int(rng.integers(2, 6))):
        writer.choice([writer.component, writer.component, writer.tdnnf, writer.dim_range])(number)
    text, _ = writer.descriptor()
    writer.lines.append(f"output-node name=output input={text}")
    network = network_from("\n".join(writer.lines), seed)
    components = {n: _filled(spec, rng) for n, spec in network.components.items()}
    return dataclasses.replace(network, components=components)


def _filled(spec, rng: np.random.Generator):
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
