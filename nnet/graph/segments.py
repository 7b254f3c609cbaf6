"""Networks that make one vector of a whole utterance, such as an x-vector."""

from __future__ import annotations

from nnet.components.pooling import StatisticsPooling
from nnet.graph.cycles import reads
from nnet.graph.network import ComponentNode, Network


def makes_segments(network: Network, output: str = "output") -> bool:
    """Whether an output is one vector an utterance: the one at time 0.

    It is where all that the output reads is pooled, from the frame that is asked for onwards, as
    in nnet3's networks for speakers, which nnet3-xvector-compute runs.
    """
    waiting, seen, pooled = [output], {output}, False
    while waiting:
        node = network.nodes[waiting.pop()]
        component = network.components[node.component] if isinstance(node, ComponentNode) else None
        if isinstance(component, StatisticsPooling) and not component.left_context:
            pooled = True
            continue
        names = [read.source for read in reads(network, node)]
        if not names:
            return False  # an input, or a constant, by another way
        waiting += [name for name in names if name not in seen]
        seen.update(names)
    return pooled
