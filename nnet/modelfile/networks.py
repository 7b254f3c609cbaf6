"""Networks from the text that people write, config or xconfig."""

from __future__ import annotations

import dataclasses

import numpy as np

from nnet.arguments import check_argument
from nnet.components.initial import ReadArray
from nnet.graph.build import build_network, is_config
from nnet.graph.dims import node_dim
from nnet.graph.network import Network, OutputNode
from nnet.modelfile.loading import read_matrix, read_vector
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
            (`relu-layer name=...`), told apart by their first line.
        name: how errors call the text, such as its file name.
        rng: where random numbers come from, or the seed of a generator; by default 0.
        base: a network to add to; it is not changed.

    Raises:
        TextError: a mistake in the text, with its place.
        NnetError: a file that the text names cannot be read.
    """
    rng = np.random.default_rng(rng or 0) if rng is None or isinstance(rng, int) else rng
    check_argument(rng, np.random.Generator, "rng", "numpy.random.default_rng(seed), or a seed")
    file = parse_config(text, name)
    if is_config(file):
        return config_network(file, base, rng)
    expansion = expand_over(base, parse_xconfig(text, name))
    return config_network(expansion.final, base, rng, expansion)


def unestimated_network(
    text: str, name: str, rng: np.random.Generator
) -> tuple[Network, FixedAffineLayer] | None:
    """An xconfig's network whose fixed-affine-layer is zero, and that layer.

    Returns:
        None if the text is no xconfig, or none of its layers is to be estimated from data.

    Raises:
        TextError: a mistake in the text, with its place.
        NnetError: another file that the text names cannot be read.
    """
    if is_config(parse_config(text, name)):
        return None
    expansion = expand_over(None, parse_xconfig(text, name))
    if expansion.init is None:
        return None
    found = (x for x in expansion.layers if isinstance(x, FixedAffineLayer) and x.write_init_config)
    layer = next(found)
    zeros = ((0.0,) * (layer.input.dim + 1),) * layer.dim
    matrices = {**expansion.matrices, layer.affine_transform_file: zeros}
    expansion = dataclasses.replace(expansion, matrices=matrices)
    return config_network(expansion.final, None, rng, expansion), layer


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
