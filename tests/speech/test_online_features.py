"""Streams of features: pieces of any size give the frames of the whole signal."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.speech.features import Fbank, FbankOptions, Mfcc, MfccOptions
from nnet.speech.kinds import KINDS, make_features, stream_of
from nnet.speech.online_features import OnlineSpectralFeatures
from nnet.speech.plp import Plp, PlpOptions
from nnet.text.options_file import OptionsFile
from tests.speech.digits import RATE, pieces, samples, streamed

CASES = {
    "mfcc with dither": Mfcc(MfccOptions(sample_frequency=RATE)),
    "mirrored edges": Fbank(FbankOptions(sample_frequency=RATE, snip_edges=False)),
    "upsampled": Plp(PlpOptions(allow_upsample=True, snip_edges=False)),
    "downsampled": Mfcc(MfccOptions(sample_frequency=6000, allow_downsample=True)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("longest", [7, 300, 5000])
def test_pieces_give_the_same_frames(case, longest):
    features, signal = CASES[case], samples("theo-001")
    whole = features.compute(signal, RATE, seed=3)
    stream = OnlineSpectralFeatures(features, RATE, seed=3)
    frames = streamed(stream, pieces(signal, longest))
    assert frames.shape == whole.shape
    assert stream.frames_ready == len(whole)
    np.testing.assert_allclose(frames, whole, atol=1e-4)


def test_frames_come_as_soon_as_their_samples_are_there():
    stream = OnlineSpectralFeatures(Mfcc(MfccOptions(sample_frequency=RATE)), RATE)
    stream.accept(np.ones(199, np.float32))
    assert stream.frames_ready == 0
    stream.accept(np.ones(1, np.float32))
    assert stream.frames_ready == 1
    assert stream.take().shape == (1, 13)
    assert stream.take().shape == (0, 13)


def test_a_stream_without_samples():
    stream = OnlineSpectralFeatures(Mfcc(MfccOptions()))
    stream.finish()
    assert stream.take().shape == (0, 13)


def test_samples_after_the_end():
    stream = OnlineSpectralFeatures(Mfcc(MfccOptions()))
    stream.finish()
    with pytest.raises(NnetError, match="after the end of the signal"):
        stream.accept(np.ones(3, np.float32))


def test_another_rate_is_an_error():
    with pytest.raises(NnetError, match="the signal has 8000 Hz, expected 16000 Hz"):
        OnlineSpectralFeatures(Mfcc(MfccOptions()), 8000)


def test_samples_that_are_no_numbers():
    stream = OnlineSpectralFeatures(Mfcc(MfccOptions()))
    stream.accept(np.ones(10, np.float32))
    with pytest.raises(NnetError, match="sample 12 of the signal is nan"):
        stream.accept(np.array([1, 1, np.nan], np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_stream_of_every_kind(kind):
    features = make_features(kind, OptionsFile.parse(f"--sample-frequency={RATE}", "x"))
    signal = samples("theo-001")
    frames = streamed(stream_of(features, RATE), pieces(signal, 700))
    assert frames.shape == features.compute(signal, RATE).shape
