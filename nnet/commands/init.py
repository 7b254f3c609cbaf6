"""`nnet init`: a config or xconfig to a model with initial parameters.

Kaldi's nnet3-init, from a config or an xconfig.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.commands.options import BinaryOrText, Text
from nnet.errors import NnetError
from nnet.options import Option

if TYPE_CHECKING:
    from nnet.graph.network import Network


def init(
    files: Annotated[
        list[str],
        Argument(
            metavar="[MODEL] NET OUT",
            help="NET is a config or an xconfig; with MODEL, its lines are added to that model.",
        ),
    ],
    srand: Annotated[int, Option("Seed of the random initial parameters.")] = 0,
    text: Text = False,
    binary: BinaryOrText = True,
) -> None:
    """Makes a raw model with initial parameters, as nnet3-init does.

    Example: nnet init network.xconfig 0.raw --srand 3
    """
    from nnet.modelfile.model import read_model, write_model

    if not 2 <= len(files) <= 3:
        raise NnetError(f"nnet init takes [MODEL] NET OUT, found {len(files)} file names")
    base = read_model(files[0]).network if len(files) == 3 else None
    network = network_from_file(files[-2], base, srand)
    write_model(network, files[-1], binary=binary and not text)


def network_from_file(path: str, base: Network | None, seed: int) -> Network:
    """The network of a config or xconfig file, added to `base` if there is one.

    Warns of what no output needs.
    """
    import numpy as np

    from nnet.modelfile.networks import build
    from nnet.text.files import read_text

    network = build(read_text(path), path, rng=np.random.default_rng(seed), base=base)
    warn_of_orphans(network)
    return network


def warn_of_orphans(network: Network) -> None:
    """Prints a warning to standard error for each node and component that no output needs."""
    from nnet.graph.check import orphans

    for warning in orphans(network):
        print(f"warning: {warning}", file=sys.stderr)
