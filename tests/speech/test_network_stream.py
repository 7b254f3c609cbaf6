"""Outputs of a network as features come in: those of whole utterances."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.inference.chunks import ChunkedInference, Utterance
from nnet.inference.options import ChunkOptions
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.speech.network_stream import NetworkStream
from tests.support import GOLDEN, table

NET = GOLDEN / "nets/tdnnf"
FACTOR = 3


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_pieces_give_the_outputs_of_whole_utterances(size: int) -> None:
    module = compile_network(
        read_model(NET / "trained.raw").network, test_mode=True, outputs=("output",)
    )
    ivector = table(NET / "ivectors.ark")
    inference = ChunkedInference(module, ChunkOptions(21, FACTOR))
    for name, rows in table(NET / "feats.ark").items():
        own = ivector[name][0]
        (_, expected), *_ = inference.run([Utterance(name, rows, own, 0)])
        stream = NetworkStream(module, FACTOR, 21)
        found = []
        for begin in range(0, len(rows), size):
            stream.accept(rows[begin : begin + size])
            found += stream.take(lambda frame, own=own: own)
        stream.finish()
        found += stream.take(lambda frame, own=own: own)
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4)


def test_features_of_another_dimension_are_refused() -> None:
    module = compile_network(
        read_model(NET / "trained.raw").network, test_mode=True, outputs=("output",)
    )
    stream = NetworkStream(module, FACTOR, 21)
    with pytest.raises(NnetError, match="the features have 7 numbers a frame"):
        stream.accept(np.zeros((3, 7), np.float32))
