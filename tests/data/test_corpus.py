"""The checked set of utterances: what is left out, what is refused, what is held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnet.data.corpus import Sources, load_corpus
from nnet.data.errors import TableError
from nnet.data.posteriors import Posterior
from nnet.data.targets import TargetKind
from nnet.data.writers import AlignmentWriter, MatrixWriter, PosteriorWriter

Make = Callable[..., Sources]


def test_utterances_have_features_and_targets(
    make_sources: Make, features: dict[str, np.ndarray]
) -> None:
    corpus = load_corpus(make_sources())
    assert corpus.names == ("a", "b", "c")
    assert corpus.lengths.tolist() == [30, 47, 12]
    assert corpus.target_kind is TargetKind.ALIGNMENT
    utterance = corpus.load(1)
    np.testing.assert_array_equal(utterance.features, features["b"])
    assert utterance.target[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_utterances_without_targets_are_left_out_and_counted(
    make_sources: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with AlignmentWriter(f"ark:{tmp_path}/some.ark") as writer:
        writer.write("b", np.zeros(47, np.int32))
        writer.write("c", np.ones(20, np.int32))
    corpus = load_corpus(make_sources(targets=f"ark:{tmp_path}/some.ark"))
    assert corpus.names == ("b",)
    assert "1 of 3 utterances have no targets and are left out (first: a)" in caplog.text
    assert "1 of 3 utterances have targets of another length and are left out" in caplog.text


def test_it_is_an_error_if_none_is_left(make_sources: Make, tmp_path: Path) -> None:
    with AlignmentWriter(f"ark:{tmp_path}/none.ark") as writer:
        writer.write("a", np.zeros(3, np.int32))
    with pytest.raises(TableError) as caught:
        load_corpus(make_sources(targets=f"ark:{tmp_path}/none.ark"))
    assert (
        "no utterance of 3 can be used: 1 have targets of another length, 2 have no targets\n"
        "expected: features with targets of the same names and lengths in ark:"
    ) in str(caught.value)


def test_dimensions_of_network_and_data_are_both_named(make_sources: Make) -> None:
    with pytest.raises(TableError) as caught:
        load_corpus(make_sources(feature_dim=40))
    message = str(caught.value)
    assert "feats.scp, utterance 'a': the features have dimension 3" in message
    assert "expected: 40, the dim of the network's input node 'input'" in message
    with pytest.raises(TableError, match="frame 3 has the target 3"):
        load_corpus(make_sources(output_dim=3))


def test_features_that_are_not_finite_are_refused(
    make_sources: Make, tmp_path: Path, features: dict[str, np.ndarray]
) -> None:
    features["b"][7, 2] = np.inf
    with MatrixWriter(f"ark:{tmp_path}/bad.ark") as writer:
        for name, rows in features.items():
            writer.write(name, rows)
    with pytest.raises(TableError, match="utterance 'b': feature inf at frame 7, column 2"):
        load_corpus(make_sources(feats=f"ark:{tmp_path}/bad.ark"))


def test_ivectors_of_utterances_and_of_times(make_sources: Make, tmp_path: Path) -> None:
    by_utterance = load_corpus(
        make_sources(ivectors=f"ark:{tmp_path}/ivectors.ark", ivector_dim=2)
    ).load(1)
    assert by_utterance.ivectors is not None
    assert by_utterance.ivectors.tolist() == [[1, -1]]
    online = make_sources(online_ivectors=f"ark:{tmp_path}/online.ark", ivector_dim=2)
    by_time = load_corpus(online).load(1)
    assert by_time.ivectors is not None
    assert by_time.ivectors.shape == (5, 2)
    assert by_time.frames_per_ivector == 10


def test_wrong_ivectors_are_refused(make_sources: Make, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="the i-vectors have dimension 2"):
        load_corpus(make_sources(ivectors=f"ark:{tmp_path}/ivectors.ark", ivector_dim=100))
    with pytest.raises(TableError, match="are given with --online-ivectors"):
        load_corpus(make_sources(ivectors=f"ark:{tmp_path}/online.ark", ivector_dim=2))


def test_posteriors_of_which_one_looks_like_an_alignment(
    make_sources: Make, tmp_path: Path
) -> None:
    with PosteriorWriter(f"ark:{tmp_path}/post.ark") as writer:
        writer.write("a", Posterior.of([[]] * 30))
        writer.write("b", Posterior.of([[(1, 0.5), (2, 0.5)]] * 47))
    corpus = load_corpus(make_sources(targets=f"ark:{tmp_path}/post.ark"))
    assert corpus.target_kind is TargetKind.POSTERIOR
    assert all(isinstance(corpus.load(i).target, Posterior) for i in range(2))


def test_a_held_out_share_has_whole_utterances(make_sources: Make) -> None:
    corpus = load_corpus(make_sources())
    rest, held_out = corpus.split(0.2, np.random.default_rng(0))
    assert sorted(rest.names + held_out.names) == ["a", "b", "c"]
    assert held_out.names
    with pytest.raises(TableError, match="--valid-share 0"):
        rest.split(0.9, np.random.default_rng(0))


def test_what_does_not_fit_in_memory_is_read_again(
    make_sources: Make, features: dict[str, np.ndarray]
) -> None:
    corpus = load_corpus(make_sources(memory=30 * 4 * 5))
    assert not corpus.is_held
    for number in (0, 1, 2, 0, 1):
        utterance = corpus.load(number)
        np.testing.assert_array_equal(utterance.features, features[utterance.name])


def test_a_fingerprint_changes_with_the_data(
    make_sources: Make, tmp_path: Path, features: dict[str, np.ndarray]
) -> None:
    before = load_corpus(make_sources()).fingerprint()
    assert load_corpus(make_sources(memory=1)).fingerprint() == before
    features["c"][3, 1] += 1
    with MatrixWriter(f"ark:{tmp_path}/other.ark") as writer:
        for name, rows in features.items():
            writer.write(name, rows)
    after = load_corpus(make_sources(feats=f"ark:{tmp_path}/other.ark")).fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"checksum of features"}
