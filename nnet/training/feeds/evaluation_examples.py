"""Examples in a table, as minibatches for the evaluation of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nnet.data.chain.minibatch import chain_minibatch
from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import read_examples, read_objects
from nnet.data.minibatch import Minibatch
from nnet.graph.network import Network
from nnet.modelfile.chain_examples import read_chain_example
from nnet.training.lfmmi.graph import read_denominator
from nnet.training.lfmmi.objective import ChainObjective
from nnet.training.lfmmi.options import ChainMeasure, ChainOptions


def minibatches_for(
    network: Network, egs: str, den_fst: str, measure: ChainMeasure
) -> tuple[Iterator[Minibatch], ChainObjective | None]:
    """The examples of a table, and the objective of LF-MMI if they are for it.

    Args:
        network: which they are for.
        egs: rspecifier.
        den_fst: file of the denominator graph; '' where the examples have targets of frames.
        measure: what LF-MMI depends on.
    """
    if not den_fst:
        return (example_minibatch(eg, network) for _, eg in read_examples(egs)), None
    options = ChainOptions(**dataclasses.asdict(measure))
    objective = ChainObjective(read_denominator(den_fst, network), options)
    examples = read_objects(egs, read_chain_example)
    return (chain_minibatch(eg, network, with_xent=True) for _, eg in examples), objective
