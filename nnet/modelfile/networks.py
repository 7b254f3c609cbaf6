"""Networks from the text that people write, config or xconfig."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from nnet.arguments import check_argument
from nnet.components.initial import ReadArray
from nnet.graph.build import build_network
from nnet.graph.dims import node_dim
from nnet.graph.network import Network, OutputNode
from nnet.modelfile.loading import read_matrix, read_vector
from nnet.text.kinds import is_config
from nnet.text.parse import parse_config, parse_xconfig
from nnet.text.syntax import File
from nnet.xconfig import Expansion, expand
from nnet.xconfig.fixed import FixedAffineLayer


def build(
    text: str,
    name: str = "<string>",
    *,
    rng: np.random.Generator | int | None = None,
    base: Network | None = None,
) -> Network:
    """The network that a config or an xconfig describes, with random initial parameters.

    Args:
        text: lines of an nnet3 config (`component-node name=...`) or of an xconfig
            (`relu-layer name=...`), told apart by their first word.
        name: how errors call the text, such as its file name.
        rng: where random numbers come from, or the seed of a generator; by default 0.
        base: a network to add to; it is not changed.

    Raises:
        TextError: a mistake in the text, with its place.
        NnetError: a file that the text names cannot be read.
    """
    rng = np.random.default_rng(rng or 0) if rng is None or isinstance(rng, int) else rng
    check_argument(rng, np.random.Generator, "rng", "numpy.random.default_rng(seed), or a seed")
    return parse_network(text, name, base).network(rng)


@dataclass(frozen=True)
class NetworkText:
    """A config or an xconfig, parsed.

    Attributes:
        config: the lines of the config, or of what the xconfig stands for.
        expansion: of an xconfig.
        base: the network that it adds to.
    """

    config: File
    expansion: Expansion | None
    base: Network | None

    def fixed_affine_layer(self) -> FixedAffineLayer | None:
        """The layer of an xconfig whose transform is to be estimated from data."""
        if self.expansion is None or self.expansion.init is None:
            return None
        layers = (x for x in self.expansion.layers if isinstance(x, FixedAffineLayer))
        return next(layer for layer in layers if layer.write_init_config)

    def network(self, rng: np.random.Generator, *, zero_transform: bool = False) -> Network:
        """The network, with random initial parameters.

        Args:
            rng: where random numbers come from.
            zero_transform: whether the fixed-affine-layer is zero, and not read from its file.

        Raises:
            TextError: a mistake in the text, with its place.
            NnetError: a file that the text names cannot be read.
        """
        expansion = self.expansion
        layer = self.fixed_affine_layer() if zero_transform else None
        if expansion is not None and layer is not None:
            zeros = ((0.0,) * (layer.input.dim + 1),) * layer.dim
            matrices = {**expansion.matrices, layer.affine_transform_file: zeros}
            expansion = dataclasses.replace(expansion, matrices=matrices)
        return config_network(self.config, self.base, rng, expansion)


def parse_network(text: str, name: str, base: Network | None = None) -> NetworkText:
    """A config or an xconfig, told apart by the first word.

    Args:
        text: its lines.
        name: how errors call the text, such as its file name.
        base: a network that it adds to.

    Raises:
        TextError: a mistake in the text, with its place.
    """
    check_argument(text, str, name, "a text; Path(file).read_text() is a file's")
    if is_config(text):
        return NetworkText(parse_config(text, name), None, base)
    expansion = expand_over(base, parse_xconfig(text, name))
    return NetworkText(expansion.final, expansion, base)


def config_network(
    file: File,
    base: Network | None,
    rng: np.random.Generator | None,
    expansion: Expansion | None = None,
) -> Network:
    """The network of a parsed config; matrices that an expansion determines come from there.

    Without `rng` its parameters are constants, which is enough to know its structure.
    """
    read = read_matrix if expansion is None else _matrix_reader(expansion)
    return build_network(file, base, rng=rng, read_matrix=read, read_vector=read_vector)


def expand_over(base: Network | None, xconfig: File) -> Expansion:
    """The expansion of an xconfig whose layers may read the nodes of `base`, all but outputs."""
    return expand(xconfig, readable_nodes(base))


def readable_nodes(base: Network | None) -> dict[str, int]:
    """The nodes of a network that new layers may read, with their numbers of columns."""
    if base is None:
        return {}
    nodes = base.nodes.values()
    return {n.name: node_dim(base, n.name) for n in nodes if not isinstance(n, OutputNode)}


def _matrix_reader(expansion: Expansion) -> ReadArray:
    """Reads the matrices that the xconfig determines from it, all others from files."""

    def read(path: str) -> np.ndarray:
        if path in expansion.matrices:
            return np.array(expansion.matrices[path], np.float32)
        return read_matrix(path)

    return read
