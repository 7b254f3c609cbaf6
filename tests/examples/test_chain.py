"""The LF-MMI example: decoding, phone errors, and its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.chain.__main__ import main
from examples.chain.decoding import Recogniser, smoothed_bigrams
from examples.chain.errors import Errors, errors
from examples.chain.phones import alignment_of
from examples.chain.systems import SHORTEST_PHONE, frame_hmms, less_priors
from nnet.modelfile.transition_ids import chain_topology, make_transition_model
from nnet.modelfile.trees import left_biphone_tree
from tests.acceptors import arcs_of

SEQUENCES = [[1, 2, 3, 1], [1, 3, 2, 2, 1], [1, 2, 1]]
PHONES = st.lists(st.integers(1, 4), max_size=7)


def changes(one: list[int], other: list[int]) -> int:
    """The fewest changes, by definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        changes(one[1:], other[1:]) + (one[0] != other[0]),
        changes(one[1:], other) + 1,
        changes(one, other[1:]) + 1,
    )


@given(PHONES, PHONES)
def test_errors_are_the_fewest_changes_without_silence(
    said: list[int], recognised: list[int]
) -> None:
    true, found = ([p for p in phones if p != 4] for phones in (said, recognised))
    assert errors(said, recognised, silence=4) == Errors(changes(true, found), len(true))


def test_error_rates_add_up() -> None:
    assert sum([Errors(1, 10), Errors(3, 10)], Errors()).percent == 20


def test_smoothed_bigrams_are_distributions_over_all_phones() -> None:
    fst = smoothed_bigrams(SEQUENCES, range(1, 6), scale=1.0)
    for state in range(fst.num_states):
        arcs = arcs_of(fst, state)
        assert [label for label, _, _ in arcs] == [1, 2, 3, 4, 5]
        assert all(following == label for label, _, following in arcs)
        total = sum(np.exp(-cost) for _, cost, _ in arcs) + np.exp(-fst.finals[state])
        assert total == pytest.approx(1.0, abs=0.15 if state == 0 else 1e-5)
    likely = {label: cost for label, cost, _ in arcs_of(fst, 1)}
    assert likely[2] < likely[3] < likely[5]


def test_phones_are_recognised_from_perfect_outputs() -> None:
    tree = left_biphone_tree(dict.fromkeys(range(1, 6), 2), [1])
    model = make_transition_model(chain_topology(range(1, 6)), tree)
    recogniser = Recogniser.of(smoothed_bigrams(SEQUENCES, range(1, 6), 1.0), model, tree)
    for phones in ([1, 2, 2, 1], [5, 4, 3], [1]):
        pdfs = []
        for left, phone in zip([0, *phones], phones, strict=False):
            pdfs += [tree.pdf((left, phone), 0), *[tree.pdf((left, phone), 1)] * 2]
        outputs = np.full((len(pdfs), tree.num_pdfs), -20.0, np.float32)
        outputs[np.arange(len(pdfs)), pdfs] = 0.0
        assert recogniser.phones(outputs) == phones


def test_phones_of_frames_last_at_least_three_frames() -> None:
    recogniser = Recogniser.of(smoothed_bigrams(SEQUENCES, range(1, 4), 0.1), *frame_hmms(3))
    labels = [0] * 5 + [1] + [2] * 4
    outputs = np.full((len(labels), 3), -5.0, np.float32)
    outputs[np.arange(len(labels)), labels] = 0.0
    assert SHORTEST_PHONE == 3
    assert recogniser.phones(outputs) == [1, 3]


def test_stretches_of_labels_are_phones() -> None:
    alignment = alignment_of(np.array([0, 0, 3, 3, 3, 0]))
    assert alignment.phones.tolist() == [1, 4, 1]
    assert alignment.durations.tolist() == [2, 3, 1]


def test_priors_are_divided_out() -> None:
    posteriors = {"a": np.log(np.array([[0.5, 0.25, 0.25]]))}
    found = less_priors(posteriors, {"a": np.array([0, 0, 0, 1])})["a"]
    assert np.exp(found[0]) == pytest.approx([0.5 * 7 / 4, 0.25 * 7 / 2, 0.25 * 7 / 1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "argument --epochs: '0' is not a whole number from 1 on"),
        (["--minutes", "3"], "unrecognized arguments: --minutes 3; see python -m examples.chain"),
    ],
)
def test_wrong_input_gives_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*words, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"chain: {message}")
    assert error.count("\n") == 1
