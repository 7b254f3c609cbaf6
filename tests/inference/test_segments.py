"""One vector an utterance: chunks, padding, and the weighted average."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.inference.chunks import Utterance
from nnet.inference.options import SegmentOptions
from nnet.inference.segments import Segment, SegmentInference, segments
from nnet.runtime.compiled import compile_network
from tests.support import GOLDEN, golden_network, network_from, relative_error, table, utterances


@pytest.mark.parametrize(
    ("frames", "options", "expected"),
    [
        (250, SegmentOptions(), [Segment(0, 250)]),
        (60, SegmentOptions(), [Segment(0, 60, 20, 20)]),
        (61, SegmentOptions(), [Segment(0, 61, 19, 20)]),
        (
            250,
            SegmentOptions(chunk_size=100, min_chunk_size=20),
            [Segment(0, 100), Segment(100, 100), Segment(200, 50)],
        ),
        (
            205,
            SegmentOptions(chunk_size=100, min_chunk_size=20),
            [Segment(0, 100), Segment(100, 100), Segment(200, 5, 7, 8)],
        ),
        (
            205,
            SegmentOptions(chunk_size=100, min_chunk_size=20, pad_input=False),
            [Segment(0, 100), Segment(100, 100)],
        ),
        (
            70,
            SegmentOptions(chunk_size=100, min_chunk_size=20, pad_input=False),
            [Segment(0, 70)],
        ),
        (19, SegmentOptions(min_chunk_size=20, pad_input=False), []),
        (3, SegmentOptions(chunk_size=1, min_chunk_size=1), [Segment(i, 1) for i in range(3)]),
        (
            10,
            SegmentOptions(chunk_size=6, min_chunk_size=8),
            [Segment(0, 6, 1, 1), Segment(6, 4, 2, 2)],
        ),
    ],
)
def test_chunks(frames, options, expected):
    assert segments(frames, options) == expected


@given(st.integers(1, 400), st.integers(1, 120), st.integers(1, 120))
def test_padded_chunks_are_the_utterance_in_equal_pieces(frames, size, least):
    found = segments(frames, SegmentOptions(size, least))
    covered = [t for s in found for t in range(s.first, s.first + s.count)]
    assert covered == list(range(frames))
    assert all(s.count == min(size, frames) for s in found[:-1])
    assert all(s.frames == max(s.count, least) and 0 <= s.right - s.left <= 1 for s in found)


def first_and_third_frame():
    text = """
    input-node name=input dim=1
    output-node name=output input=Append(input, Offset(input, 2))
    """
    return compile_network(network_from(text), test_mode=True)


def utterance(name, *values):
    return Utterance(name, np.array(values, dtype=np.float32)[:, None])


def test_outputs_are_averaged_by_the_frames_of_their_chunks():
    inference = SegmentInference(first_and_third_frame(), SegmentOptions(4, 3))
    ((name, vector),) = inference.run([utterance("u", 1, 2, 3, 4, 50, 60)])
    # chunks 1 2 3 4 and, padded on the right, 50 60 60
    assert name == "u"
    np.testing.assert_allclose(vector, [(4 * 1 + 2 * 50) / 6, (4 * 3 + 2 * 60) / 6], rtol=1e-6)


def test_batching_across_utterances_keeps_order_and_results():
    rng = np.random.default_rng(0)
    given = [utterance(f"u{i}", *rng.normal(size=5 + 3 * (i % 4))) for i in range(12)]
    module, options = first_and_third_frame(), SegmentOptions(5, 4)
    together = list(SegmentInference(module, options).run(given))
    alone = [next(SegmentInference(module, options, batch_frames=1).run([u])) for u in given]
    assert [name for name, _ in together] == [name for name, _ in alone]
    np.testing.assert_allclose([v for _, v in together], [v for _, v in alone], rtol=1e-6)


def test_an_utterance_that_is_too_short_is_refused_without_padding():
    inference = SegmentInference(first_and_third_frame(), SegmentOptions(-1, 4, pad_input=False))
    with pytest.raises(NnetError, match="utterance 'u' has 3 frames, expected at least 4"):
        list(inference.run([utterance("u", 1, 2, 3)]))


def test_a_network_with_other_inputs_is_refused():
    text = "input-node name=input dim=1\ninput-node name=ivector dim=2\n"
    network = network_from(f"{text}output-node name=output input=Append(input, ivector)")
    with pytest.raises(NnetError, match="only input is 'input'; this one has: input, ivector"):
        SegmentInference(compile_network(network, test_mode=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, "--chunk-size is 0, expected at least 1, or -1"),
        ({"min_chunk_size": 0}, "--min-chunk-size is 0, expected at least 1"),
        (
            {"chunk_size": 50, "pad_input": False},
            r"--chunk-size is 50, below --min-chunk-size \(100\)",
        ),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(NnetError, match=message):
        SegmentOptions(**options)


@pytest.mark.parametrize("test_mode", [True, False], ids=["folded", "plain"])
def test_golden_xvectors(test_mode):
    case = GOLDEN / "nets/xvector"
    module = compile_network(golden_network("nets/xvector"), test_mode=test_mode).eval()
    inference = SegmentInference(module, SegmentOptions(chunk_size=100, min_chunk_size=20))
    results = dict(inference.run(utterances(case)))
    expected = table(case / "output.ark")
    assert results.keys() == expected.keys()
    for name, vector in results.items():
        assert relative_error(vector[None], expected[name]) < 1e-4
