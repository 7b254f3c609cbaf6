"""Long recordings with their text: pieces at anchors, and what Kaldi finds of each utterance."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from nnet.data.chain.expansion import PhoneHmms
from nnet.modelfile.loading import open_file
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.trees import read_tree
from nnet.speech.alignment import Aligner, AlignmentOptions
from nnet.speech.decoding import DecoderOptions
from nnet.speech.graphs.building import GraphScales
from nnet.speech.graphs.lang import read_lang
from nnet.speech.lattices.confidence import WordTime
from nnet.speech.lattices.word_alignment import BoundaryFinder
from nnet.speech.long_alignment import LongAligner, Piece, cut_at_anchors
from tests.graphs import DIGITS
from tests.support import table


def heard(words: list[int]) -> list[WordTime]:
    """Words of 8 frames with 2 between them."""
    return [WordTime(word, 10 * place, 10 * place + 8) for place, word in enumerate(words)]


def test_pieces_end_where_words_are_recognised() -> None:
    found = cut_at_anchors([1, 2, 3, 4, 5, 6], heard([1, 2, 3, 9, 4, 5, 6]), 70, 15)
    assert found == [Piece(0, 19, 0, 2), Piece(19, 70, 2, 6)]


def test_nothing_recognised_is_one_piece() -> None:
    assert cut_at_anchors([1, 2, 3], heard([7, 8]), 40, 10) == [Piece(0, 40, 0, 3)]


@pytest.fixture(scope="module")
def aligners() -> tuple[Aligner, LongAligner]:
    lang = read_lang(DIGITS / "lang")
    model = read_transition_model(open_file(DIGITS / "supervision/chain_trans_mdl"))
    hmms = PhoneHmms(model, read_tree(open_file(DIGITS / "chain/tree")))
    assert lang.places is not None
    finder = BoundaryFinder(lang.places)
    options = AlignmentOptions(beam=30)
    aligner = Aligner(lang.plain_lexicon, lang.disambiguation, hmms, finder, options)
    search = DecoderOptions(beam=15, lattice_beam=0.5, acoustic_scale=1.0)
    return aligner, LongAligner(lang, hmms, aligner, search, GraphScales(1.0, 1.0), 60)


def recording() -> tuple[list[str], list[str], np.ndarray, list[int]]:
    """Ten utterances one after the other, with their text, and where each begins."""
    texts = {line.split()[0]: line.split()[1:] for line in (DIGITS / "dev/text").open()}
    outputs = table(DIGITS / "dev/output.ark")
    begins = np.cumsum([0, *map(len, outputs.values())]).tolist()
    words = [word for name in outputs for word in texts[name]]
    return list(outputs), words, np.concatenate(list(outputs.values())), begins


def test_a_long_recording_is_aligned_as_its_utterances_are(aligners) -> None:
    aligner, long = aligners
    lang = read_lang(DIGITS / "lang")
    _, words, rows, _ = recording()
    labels = [lang.words.label(word) for word in words]
    found = long(labels, rows)
    assert [word.word for word in found.words] == labels
    assert len(found.path.transitions) == len(rows) == len(found.phones)
    whole = aligner(labels, rows)
    same = sum(
        abs(a.begin - b.begin) <= 3 and abs(a.end - b.end) <= 3
        for a, b in zip(found.words, whole.words, strict=True)
    )
    assert same >= 0.9 * len(labels)


def test_parts_that_do_not_fit_are_named_and_left_out(aligners, caplog) -> None:
    _, long = aligners
    lang = read_lang(DIGITS / "lang")
    _, words, rows, _ = recording()
    labels = [lang.words.label(word) for word in words]
    wrong = [*labels[:20], *([lang.words.label("six")] * 200), *labels[20:]]
    with caplog.at_level(logging.WARNING):
        found = long(wrong, rows)
    assert "does not fit" in caplog.text
    assert 0 < len(found.words) < len(wrong)
    assert len(found.path.transitions) == len(rows)
