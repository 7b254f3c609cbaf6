"""The denominator graph, from a file to what the kernels take."""

from __future__ import annotations

import os

import numpy as np
import torch

from nnet.data.chain.den_graph import initial_probabilities
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import Network
from nnet.kernels.chain.transitions import Transitions
from nnet.modelfile.fst import Fst, read_fst_file
from nnet.training.ports import main_output


def read_denominator(path: str | os.PathLike[str], network: Network) -> Transitions:
    """The denominator graph in a file such as `den.fst`.

    Args:
        path: an FST of OpenFst whose labels are pdf-ids plus one.
        network: whose output `output` (or the only one) is for these pdfs.

    Raises:
        NnetError: the file is none, or the graph does not fit the network.
    """
    output = main_output(network)
    if output is None:
        raise NnetError("the network has several outputs, and none of them is named 'output'")
    fst = read_fst_file(path)
    try:
        return denominator_transitions(fst, node_dim(network, output.name))
    except NnetError as error:
        raise NnetError(f"{os.fspath(path)}: {error}") from None


def denominator_transitions(fst: Fst, num_pdfs: int) -> Transitions:
    """A denominator graph, sorted; its probabilities are of type float32 as in Kaldi.

    Raises:
        NnetError: it is empty, or has labels that are no pdf-ids plus one.
    """
    if not fst.num_arcs:
        raise NnetError("the denominator graph has no transitions")
    least, most = int(fst.ilabels.min()), int(fst.ilabels.max())
    if least < 1 or most > num_pdfs:
        raise NnetError(
            f"the labels of the denominator graph are {least} to {most}; expected: pdf-ids plus "
            f"one, from 1 to the {num_pdfs} of the network's output"
        )
    return Transitions.of(
        torch.from_numpy(fst.sources),
        torch.from_numpy(fst.nextstates),
        torch.from_numpy(fst.ilabels - 1),
        torch.from_numpy(np.exp(-fst.weights)),
        torch.from_numpy(initial_probabilities(fst).astype(np.float32)),
        num_pdfs,
    )
