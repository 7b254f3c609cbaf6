"""Chunked inference: how utterances are cut, which i-vector a chunk gets, and batching."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.inference.chunks import ChunkedInference, Utterance
from nnet.inference.options import ChunkOptions
from nnet.runtime.compiled import compile_network
from tests.support import GOLDEN, golden_network, network_from, relative_error, utterances


@pytest.fixture
def tdnnf():
    return compile_network(golden_network("nets/tdnnf"), test_mode=True, outputs=("output",))


def test_chunks_cover_the_subsampled_frames(tdnnf):
    options = ChunkOptions(10, 3, 4, 5, extra_left_context_initial=0, extra_right_context_final=1)
    inference = ChunkedInference(tdnnf, options)
    assert inference.frames_per_chunk == 12
    found = [(c.first, c.count, c.left, c.right) for c in inference.chunks(0, 31)]
    assert found == [(0, 4, 0, 5), (12, 4, 4, 5), (24, 3, 4, 1)]


def test_the_chunk_length_is_a_multiple_of_the_modulus():
    text = "input-node name=input dim=2\noutput-node name=output input=Round(input, 4)"
    module = compile_network(network_from(text), test_mode=True)
    assert ChunkedInference(module, ChunkOptions(10, 3)).frames_per_chunk == 12
    assert ChunkedInference(module, ChunkOptions(13, 3)).frames_per_chunk == 24


def test_batching_across_utterances_changes_nothing(tdnnf):
    given = utterances(GOLDEN / "nets" / "tdnnf")
    options = ChunkOptions(9, 3)
    together = dict(ChunkedInference(tdnnf, options).run(given * 1))
    for utterance in given:
        inference = ChunkedInference(tdnnf, options, batch_frames=1)
        ((name, alone),) = inference.run([utterance])
        assert relative_error(together[name], alone) < 1e-5
    assert list(together) == [utterance.name for utterance in given]


def test_a_chunk_gets_the_online_ivector_of_its_middle():
    text = """
    input-node name=input dim=1
    input-node name=ivector dim=1
    output-node name=output input=ReplaceIndex(ivector, t, 0)
    """
    module = compile_network(network_from(text), test_mode=True)
    features = np.zeros((45, 1), dtype=np.float32)
    vectors = np.arange(5, dtype=np.float32)[:, None]
    inference = ChunkedInference(module, ChunkOptions(20))
    ((_, rows),) = inference.run([Utterance("u", features, vectors, 10)])
    # chunks 0..19, 20..39, 40..44: middles 9, 29 and 42
    assert rows[:, 0].tolist() == [0.0] * 20 + [2.0] * 20 + [4.0] * 5
    ((_, rows),) = inference.run([Utterance("u", features, vectors[3], 0)])
    assert (rows == 3).all()


def test_edges_repeat_the_first_and_last_frame():
    text = """
    input-node name=input dim=1
    output-node name=output input=Append(Offset(input, -2), input, Offset(input, 2))
    """
    module = compile_network(network_from(text), test_mode=True)
    features = np.arange(1, 6, dtype=np.float32)[:, None]
    ((_, rows),) = ChunkedInference(module, ChunkOptions(3)).run([Utterance("u", features)])
    assert rows[:, 0].tolist() == [1, 1, 1, 2, 3]
    assert rows[:, 2].tolist() == [3, 4, 5, 5, 5]


def test_a_network_without_the_usual_inputs_is_refused():
    module = compile_network(
        network_from("input-node name=speech dim=1\noutput-node name=output input=speech"),
        test_mode=True,
    )
    inference = ChunkedInference(module)
    with pytest.raises(NnetError, match="this one has: speech"):
        list(inference.run([Utterance("u", np.zeros((3, 1), dtype=np.float32))]))


@pytest.mark.parametrize("field", ["frames_per_chunk", "frame_subsampling_factor"])
def test_impossible_options_are_refused(field):
    option = field.replace("_", "-")
    with pytest.raises(NnetError, match=f"--{option} is 0, expected at least 1"):
        ChunkOptions(**{field: 0})
