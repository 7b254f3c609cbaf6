"""Features of whole signals: Kaldi's numbers, options and wrong input."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.speech.features import Fbank, FbankOptions, Mfcc, MfccOptions
from nnet.speech.kinds import KINDS, make_features
from nnet.speech.plp import Plp, PlpOptions, cepstrum, linear_prediction
from nnet.speech.transforms import (
    DeltaOptions,
    SpliceOptions,
    SpliceStream,
    add_deltas,
    splice,
    transform,
)
from nnet.text.options_file import OptionsFile, read_options
from tests.speech.digits import DIGITS, RATE, UTTERANCES, golden, samples

HTK = (
    "--sample-frequency=8000 --dither=0 --use-energy=true --raw-energy=false "
    "--window-type=hamming --snip-edges=false --htk-compat=true --frame-shift=12.5 "
    "--frame-length=20"
)
SETS = {
    "mfcc": (
        "mfcc",
        "--sample-frequency=8000 --dither=0 --use-energy=false --low-freq=64 --high-freq=3800",
    ),
    "mfcc_hires": ("mfcc", (DIGITS / "conf" / "mfcc_hires.conf").read_text()),
    "mfcc_htk": ("mfcc", HTK),
    "fbank": ("fbank", "--sample-frequency=8000 --dither=0 --num-mel-bins=40"),
}


def plain(**options):
    return MfccOptions(**{"dither": 0.0, "sample_frequency": RATE, **options})


def tone(frequency, seconds=0.5, rate=RATE):
    return (8000 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(
        np.float32
    )


@pytest.mark.parametrize("name", SETS)
def test_the_numbers_are_kaldis(name):
    kind, options = SETS[name]
    features = make_features(kind, OptionsFile.of_words(options.split(), name))
    expected_frames = golden(name)
    for utterance in expected_frames.keys() & set(UTTERANCES):
        expected = expected_frames[utterance]
        frames = features.compute(samples(utterance), RATE)
        assert frames.shape == expected.shape
        np.testing.assert_allclose(frames, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
@pytest.mark.parametrize(
    "words",
    [
        "--use-energy=true --raw-energy=true --energy-floor=1.0",
        "--window-type=blackman --preemphasis-coefficient=0 --remove-dc-offset=false",
        "--window-type=sine --round-to-power-of-two=false --snip-edges=false",
        "--window-type=hanning --htk-compat=true --low-freq=100 --high-freq=-300",
        "--window-type=rectangular --frame-length=32 --frame-shift=16 --use-energy=true",
    ],
)
def test_a_second_implementation_agrees(kind, words):
    peer = pytest.importorskip("kaldi_native_fbank")
    signal = samples("theo-000")
    options = peer.MfccOptions() if kind == "mfcc" else peer.FbankOptions()
    ours = OptionsFile.of_words([*words.split(), "--dither=0", f"--sample-frequency={RATE}"], "x")
    features = make_features(kind, ours)
    for word in words.split():
        name, _, value = word.removeprefix("--").partition("=")
        set_peer(options, name, value)
    options.frame_opts.dither, options.frame_opts.samp_freq = 0, RATE
    stream = (peer.OnlineMfcc if kind == "mfcc" else peer.OnlineFbank)(options)
    stream.accept_waveform(RATE, signal.tolist())
    stream.input_finished()
    expected = np.array([stream.get_frame(i) for i in range(stream.num_frames_ready)])
    frames = features.compute(signal, RATE)
    assert frames.shape == expected.shape
    np.testing.assert_allclose(frames, expected, atol=2e-3)


def set_peer(options, name, value):
    """Sets an option in the peer's objects, whose names differ."""
    names = {
        "frame-length": "frame_length_ms",
        "frame-shift": "frame_shift_ms",
        "preemphasis-coefficient": "preemph_coeff",
    }
    name = names.get(name, name.replace("-", "_"))
    for target in (options, options.frame_opts, options.mel_opts):
        if hasattr(target, name):
            kind = type(getattr(target, name))
            setattr(target, name, value == "true" if kind is bool else kind(value))
            return
    raise AssertionError(f"the peer has no option {name}")


def test_dither_depends_on_the_seed_alone():
    features = Mfcc(plain(dither=1.0))
    first, again, other = (features.compute(tone(300), RATE, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_silence_has_finite_features():
    for features in (Mfcc(plain()), Fbank(FbankOptions(dither=0.0, sample_frequency=RATE))):
        assert np.isfinite(features.compute(np.zeros(RATE, np.float32), RATE)).all()


def test_a_signal_shorter_than_a_window_has_no_frames():
    assert Mfcc(plain()).compute(np.zeros(100, np.float32), RATE).shape == (0, 13)
    mirrored = Mfcc(plain(snip_edges=False)).compute(tone(300)[:100], RATE)
    assert mirrored.shape == (1, 13)


def test_vocal_tract_length_normalization_moves_formants():
    features = Fbank(FbankOptions(dither=0.0, sample_frequency=RATE, num_mel_bins=40))
    peaks = [
        features.compute(tone(1000), RATE, vtln_warp=warp).mean(axis=0).argmax()
        for warp in (0.9, 1.0, 1.1)
    ]
    assert peaks[0] < peaks[1] < peaks[2]


def test_plp_of_an_all_pole_signal():
    """The prediction finds the poles of a signal that a known filter made."""
    lags = np.arange(3)
    poles = 0.8 * np.exp(np.array([1j, -1j]) * 0.9)
    expected = np.poly(poles)[1:].real
    impulse = np.zeros(4000)
    impulse[0] = 1.0
    for n in range(1, 4000):
        past = sum(expected[k] * impulse[n - 1 - k] for k in range(2) if n - 1 - k >= 0)
        impulse[n] -= past
    autocorrelation = np.array([[impulse[: 4000 - lag] @ impulse[lag:] for lag in lags]])
    coefficients, error = linear_prediction(autocorrelation)
    np.testing.assert_allclose(coefficients[0], expected, atol=1e-9)
    np.testing.assert_allclose(error, 1.0, atol=1e-9)
    series = [(poles**n).sum().real / n for n in (1, 2)]
    np.testing.assert_allclose(cepstrum(coefficients)[0], series, atol=1e-9)


def test_plp_tells_tones_apart_and_not_loudness():
    features = Plp(PlpOptions(dither=0.0, sample_frequency=RATE, use_energy=False))
    low, loud, high = (
        features.compute(signal, RATE).mean(axis=0)
        for signal in (tone(400), 2 * tone(400), tone(2000))
    )
    assert np.abs(low[1:] - loud[1:]).max() < 0.02 * np.abs(low[1:] - high[1:]).max()
    assert loud[0] - low[0] == pytest.approx(np.log(2.0**2) * 0.33333, rel=0.05)


def test_deltas_and_splicing_are_kaldis():
    frames = golden("mfcc")
    for utterance, expected in golden("deltas").items():
        np.testing.assert_allclose(
            add_deltas(frames[utterance], DeltaOptions()), expected, atol=1e-5
        )
    for utterance, expected in golden("splice").items():
        np.testing.assert_array_equal(splice(frames[utterance], SpliceOptions(3, 2)), expected)


def test_splicing_a_stream():
    frames = golden("mfcc")["theo-000"]
    options = SpliceOptions(3, 2)
    stream = SpliceStream(options, 13)
    parts = [stream.accept(frames[i : i + 4]) for i in range(0, len(frames), 4)]
    parts.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate(parts), splice(frames, options))


def test_an_affine_transform():
    frames = np.array([[1.0, 2.0]], np.float32)
    matrix = np.array([[1.0, 1.0, 10.0]], np.float32)
    assert transform(frames, matrix).tolist() == [[13.0]]
    assert transform(frames, matrix[:, :2]).tolist() == [[3.0]]


def test_resampling_keeps_what_both_rates_can_hold():
    options = {"dither": 0.0, "num_mel_bins": 20, "high_freq": 3000.0, "snip_edges": False}
    low = Fbank(FbankOptions(sample_frequency=8000, allow_downsample=True, **options))
    from_8, from_16 = (low.compute(tone(700, 1, rate), rate) for rate in (8000, 16000))
    assert from_8.shape == from_16.shape
    loudest = from_8.mean(axis=0).argmax()
    np.testing.assert_allclose(from_8[5:-5, loudest], from_16[5:-5, loudest], atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (np.zeros((2, 5000)), r"samples of shape \(2, 5000\); expected: one channel"),
        (np.array([0.0] * 4999 + [np.inf]), "sample 4999 of the signal is inf"),
    ],
)
def test_signals_that_are_none(kind, signal, message):
    features = make_features(kind, OptionsFile.parse("", "x"))
    with pytest.raises(NnetError, match=message):
        features.compute(signal, 16000)


def test_samples_may_be_whole_numbers():
    signal = samples("theo-001")
    features = Mfcc(plain())
    expected = features.compute(signal, RATE)
    np.testing.assert_array_equal(features.compute(signal.astype(np.int16), RATE), expected)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (8000, "the signal has 8000 Hz, expected 16000 Hz .* --allow-upsample=true"),
        (44100, "the signal has 44100 Hz, expected 16000 Hz .* --allow-downsample=true"),
    ],
)
def test_another_rate_is_an_error(rate, message):
    with pytest.raises(NnetError, match=message):
        Mfcc(MfccOptions()).compute(np.zeros(1000, np.float32), rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--window-type=blackmann", "did you mean 'blackman'"),
        ("--num-ceps=30", "--num-ceps is 30; expected: 1 to 23"),
        ("--high-freq=9000", "--high-freq 9000 .* <= 8000 Hz"),
        ("--num-mel-bins=2 --num-ceps=2", "expected: at least 3"),
        ("--num-mel-bins=200 --num-ceps=13", "between two frequencies"),
        ("--frame-shift=0", "at least 1"),
        ("--preemphasis-coefficient=2", "expected: 0 to 1"),
    ],
)
def test_wrong_options_name_the_file(options, message):
    file = OptionsFile.of_words(options.split(), "mfcc.conf")
    with pytest.raises(NnetError, match=f"^mfcc.conf: .*{message}"):
        make_features("mfcc", file)


def test_an_unknown_kind():
    with pytest.raises(NnetError, match=r"expected: mfcc, fbank, plp, pitch, .*mean 'fbank'"):
        make_features("fbnk", OptionsFile.parse("", "x.conf"))


def test_every_kind_has_the_dimension_it_says():
    for kind in KINDS:
        features = make_features(kind, OptionsFile.parse(f"--sample-frequency={RATE}", "x"))
        assert features.compute(tone(200), RATE).shape[1] == features.dim


def test_options_of_a_real_model():
    options = read_options(str(DIGITS / "conf" / "mfcc.conf"), MfccOptions)
    assert (options.num_ceps, options.high_freq, options.dither) == (40, -200.0, 0.0)
