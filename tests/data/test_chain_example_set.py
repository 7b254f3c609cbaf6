"""Chain examples, epoch by epoch: merged, shuffled and with features at every shift."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nnet.data.example_set import ExampleSet
from nnet.data.merging import MergingRules, joined
from nnet.modelfile.chain_examples import ChainExample, read_chain_example

EGS = f"ark:{Path(__file__).parents[1]}/golden/training/chain/cegs_unmerged.ark"


def chain_set(sizes: str, shifts: int, archives: int = 1) -> ExampleSet:
    rules = MergingRules.parse(sizes)
    return ExampleSet((EGS,) * archives, rules, 20, seed=3, read=read_chain_example, shifts=shifts)


def seen(examples: ExampleSet, epoch: int | None) -> list[tuple[int, bytes]]:
    """The shift and the features of each, in order."""
    found = []
    for example in map(joined, examples.groups(epoch)):
        assert isinstance(example, ChainExample)
        (features,) = (io for io in example.inputs if io.name == "input")
        shift = int(features.indexes[0, 1]) + 5  # the examples begin at -5
        found.append((shift, features.features.dense().tobytes()))
    return found


def test_an_epoch_has_every_example_once_at_every_shift() -> None:
    examples = chain_set("1", shifts=3)
    assert len(examples) == 3 * 81 == 3 * examples.minibatches_unshifted
    found = seen(examples, 0)
    assert len(set(found)) == len(found)
    assert Counter(shift for shift, _ in found) == {0: 81, 1: 81, 2: 81}
    assert {shift for shift, _ in found[:81]} == {0}


def test_an_epoch_of_several_archives_has_as_many_minibatches_as_it_says() -> None:
    examples = chain_set("8,1:8", shifts=3, archives=2)
    assert len(list(examples.groups(1))) == len(examples) == 3 * 21


def test_epochs_are_reproducible_and_differ() -> None:
    examples = chain_set("1", shifts=3)
    assert seen(examples, 1) == seen(chain_set("1", shifts=3), 1)
    assert seen(examples, 1) != seen(examples, 0)


def test_without_an_epoch_each_example_comes_once_in_order() -> None:
    found = seen(chain_set("1", shifts=3), None)
    assert {shift for shift, _ in found} == {0}
    assert len(found) == 81


def test_minibatches_are_merged_to_the_allowed_sizes() -> None:
    sizes = Counter(map(len, chain_set("8,1:8", shifts=1).groups(0)))
    assert sizes == {8: 10, 1: 1}
