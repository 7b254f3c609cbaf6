"""Features that training computes from sound, perturbed anew in each epoch."""

import numpy as np
import pytest

from nnet.data.corpus import Sources, load_corpus
from nnet.data.folder_reading import read_folder
from nnet.data.writers import AlignmentWriter
from nnet.errors import NnetError
from nnet.speech.feature_table import RecordedFeatures
from nnet.speech.features import Mfcc, MfccOptions
from nnet.speech.perturbation import NoiseOptions, Perturbation
from tests.speech.digits import DIGITS, RATE, UTTERANCES, samples

FEATURES = Mfcc(MfccOptions(sample_frequency=RATE, dither=0.0))


@pytest.fixture
def folder(tmp_path):
    lines = [f"{name} {DIGITS}/dev/wav/{name}.wav\n" for name in UTTERANCES]
    (tmp_path / "wav.scp").write_text("".join(lines))
    (tmp_path / "utt2spk").write_text("".join(f"{name} theo\n" for name in UTTERANCES))
    return read_folder(tmp_path)


def test_without_perturbation_they_are_those_of_the_recordings(folder):
    table = RecordedFeatures(folder, FEATURES, Perturbation())
    assert list(table) == UTTERANCES
    for name in UTTERANCES:
        expected = FEATURES.compute(samples(name), RATE)
        assert table.shape(name) == expected.shape
        np.testing.assert_array_equal(table[name], expected)


def test_each_load_draws_anew_and_the_draws_repeat_with_the_seed(folder):
    perturbation = Perturbation(volume=(0.5, 2.0), noise=NoiseOptions((10.0,)), seed=3)
    tables = [RecordedFeatures(folder, FEATURES, perturbation) for _ in range(2)]
    loads = [[table["theo-001"] for _ in range(2)] for table in tables]
    np.testing.assert_array_equal(loads[0], loads[1])
    assert np.abs(loads[0][0] - loads[0][1]).max() > 0.1


def test_training_sees_other_features_in_each_epoch(folder, tmp_path):
    with AlignmentWriter(f"ark:{tmp_path}/ali.ark") as writer:
        for name in UTTERANCES:
            frames = len(FEATURES.compute(samples(name), RATE))
            writer.write(name, np.zeros(frames, np.int32))
    perturbation = Perturbation(noise=NoiseOptions((10.0,)))
    corpus = load_corpus(
        Sources(
            feats=str(tmp_path),
            targets=f"ark:{tmp_path}/ali.ark",
            feature_dim=13,
            output_dim=2,
            open_features=lambda path: RecordedFeatures(read_folder(path), FEATURES, perturbation),
            redrawn=True,
        )
    )
    assert len(corpus) == 4
    assert not corpus.is_held
    first, second = corpus.load(0), corpus.load(0)
    assert first.features.shape == second.features.shape
    assert np.abs(first.features - second.features).max() > 0.1


def test_a_speed_would_move_the_frames(folder):
    with pytest.raises(NnetError, match="targets would no longer be aligned"):
        RecordedFeatures(folder, FEATURES, Perturbation((0.9, 1.1)))


def test_unknown_utterances_and_wrong_rates(folder):
    table = RecordedFeatures(folder, Mfcc(MfccOptions()), Perturbation())
    with pytest.raises(KeyError):
        table["nobody"]
    with pytest.raises(NnetError, match="utterance 'theo-000': the signal has 8000 Hz"):
        table["theo-000"]
