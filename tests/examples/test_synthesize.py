"""Speech made on the spot: samples, phones and their times."""

from multiprocessing import Pool

import numpy as np
import pytest

from examples.speech.espeak import Speech, Voice
from examples.speech.labelling import label
from examples.speech.phones import CLASSES, PHONES, phone_of
from examples.speech.sentences import sentences
from examples.speech.speakers import Speaker, speakers
from examples.speech.synthesize import RATE, Task, speak
from examples.speech.utterance import Segment, Utterance
from nnet.errors import NnetError

TEXT = "The quick brown fox measures a big apple."


def spoken(seed: int = 0, variant: str = "f1") -> Utterance:
    task = Task(Speaker(variant, "train", Voice(f"en-us+{variant}")), [TEXT], seed)
    with Pool(1) as pool:  # espeak-ng's state is global, so each voice has its own process
        return pool.map(speak, [task])[0][0]


def test_phones_tile_the_audio_in_order() -> None:
    utterance = spoken()
    assert utterance.segments[0].start == 0
    assert utterance.segments[-1].end == len(utterance.samples)
    for before, after in zip(utterance.segments, utterance.segments[1:], strict=False):
        assert before.start < before.end == after.start


def test_the_phones_are_those_of_the_sentence() -> None:
    phones = " ".join(segment.label for segment in spoken().segments)
    assert phones.startswith("SIL DH AX K W IH K B R AW N F AA K S M EH ZH ER Z")
    assert phones.endswith("AE P EL SIL")


def test_silence_is_silent_and_speech_is_not() -> None:
    utterance = spoken()
    power = {"SIL": [], "AA": [], "AW": []}
    for segment in utterance.segments:
        if segment.label in power:
            samples = utterance.samples[segment.start : segment.end].astype(float)
            power[segment.label].append(np.mean(samples**2))
    assert min(power["AA"] + power["AW"]) > 30 * max(power["SIL"])


def test_the_same_seed_gives_the_same_speech_and_another_does_not() -> None:
    first, again, other = spoken(7), spoken(7), spoken(8)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.segments == again.segments
    assert not np.array_equal(first.samples[:RATE], other.samples[:RATE])


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(NnetError, match=r"no voice named 'en-us\+nobody'; choose one such as"):
        spoken(variant="nobody")


def test_the_closure_of_a_stop_belongs_to_the_stop() -> None:
    samples = np.concatenate([np.full(1000, 900), np.zeros(400), np.full(300, 900)])
    segments = label(Speech(samples, ["'a", "k"], [0, 1400]), rate=22050)
    assert segments == (Segment("AE", 0, 1000), Segment("K", 1000, 1700))


def test_other_silence_is_a_pause() -> None:
    samples = np.concatenate([np.full(1000, 900), np.zeros(500), np.full(300, 900)])
    segments = label(Speech(samples, ["'a", "m"], [0, 1500]), rate=22050)
    assert [segment.label for segment in segments] == ["AE", "SIL", "M"]
    assert segments[1] == Segment("SIL", 1000, 1500)


def test_an_l_reported_late_gets_the_end_of_its_vowel() -> None:
    samples = np.full(6000, 900)
    segments = label(Speech(samples, ["'O:", "l", "m"], [0, 5000, 5000]), rate=20000)
    assert segments[:2] == (Segment("AO", 0, 3800), Segment("L", 3800, 5000))


def test_stress_marks_do_not_matter() -> None:
    assert phone_of("'aI") == phone_of(",aI") == phone_of("aI") == "AY"


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(NnetError, match=r"'Q#', which examples/speech/phones\.py does not know"):
        phone_of("Q#")


def test_every_phone_has_one_class() -> None:
    assert sorted(phone for members in CLASSES.values() for phone in members) == sorted(PHONES)


def test_sentences_are_distinct_and_repeatable() -> None:
    made = sentences(300, seed=5)
    assert len(set(made)) == 300
    assert made == sentences(300, seed=5)
    assert made != sentences(300, seed=6)


def test_no_voice_is_in_two_splits() -> None:
    names = [speaker.voice.name for speaker in speakers(0)]
    assert len(set(names)) == len(names) == 50
