"""What users are told of a file that they could take for something else."""

from __future__ import annotations

from nnet.graph.network import Network
from nnet.graph.segments import makes_segments


def segment_remarks(network: Network) -> tuple[str, ...]:
    """What there is to say about the shape of the output of a network for segments."""
    if not makes_segments(network):
        return ()
    return ("the network pools over the utterance: its output is one vector, (batch, dim)",)
