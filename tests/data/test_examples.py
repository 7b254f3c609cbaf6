"""Tables of examples: streams, shuffling, merging, and their way into tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.data.example_minibatch import example_minibatch
from nnet.data.examples import ExampleWriter, read_examples, shuffled
from nnet.data.merging import MergingRules, MergingStats, merged
from nnet.errors import NnetError
from nnet.modelfile.examples import Example, NnetIo, frame_indexes
from nnet.modelfile.general_matrix import FullMatrix
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network

GOLDEN = Path(__file__).parents[1] / "golden/training/frame_level"
UNMERGED = f"ark:{GOLDEN}/egs_compressed_unmerged.ark"


def example(rows: int, value: float = 0.0) -> Example:
    matrix = FullMatrix(np.full((rows, 2), value, np.float32))
    return Example((NnetIo("input", frame_indexes(0, rows), matrix),))


@pytest.mark.parametrize(
    "form", ["ark:{0}", "ark:gzip -c {0} | gunzip |", "scp:{1}"], ids=["file", "pipe", "script"]
)
def test_an_archive_can_be_read_in_any_way(form: str, tmp_path: Path) -> None:
    ark, script = tmp_path / "egs.ark", tmp_path / "egs.scp"
    entries = list(read_examples(UNMERGED))
    with ExampleWriter(f"ark,scp:{ark},{script}") as writer:
        for key, eg in entries:
            writer.write(key, eg)
    assert ark.read_bytes() == (GOLDEN / "egs_compressed_unmerged.ark").read_bytes()
    found = list(read_examples(form.format(ark, script)))
    assert [key for key, _ in found] == [key for key, _ in entries]
    assert [eg.structure for _, eg in found] == [eg.structure for _, eg in entries]


def test_a_text_archive_can_be_read(tmp_path: Path) -> None:
    entries = list(read_examples(UNMERGED))[:4]
    with ExampleWriter(f"ark,t:{tmp_path}/egs.txt") as writer:
        for key, eg in entries:
            writer.write(key, eg)
    found = list(read_examples(f"ark:{tmp_path}/egs.txt"))
    assert [key for key, _ in found] == [key for key, _ in entries]
    for (_, a), (_, b) in zip(found, entries, strict=True):
        np.testing.assert_allclose(a.io[0].features.dense(), b.io[0].features.dense(), rtol=1e-6)


def test_merging_gives_kaldis_keys_and_structure() -> None:
    stats = MergingStats()
    egs = (eg for _, eg in read_examples(UNMERGED))
    ours = list(merged(egs, MergingRules.parse("5"), stats))
    theirs = list(read_examples(f"ark:{GOLDEN}/egs.ark"))
    assert [key for key, _ in ours] == [key for key, _ in theirs]
    assert ours[0][1].structure == theirs[0][1].structure
    assert stats.summary() == (
        "Processed 132 egs of avg. size 16 into 26 minibatches, discarding 1.515% of egs.  "
        "Avg minibatch size was 5, #distinct types of egs/minibatches was 1/1"
    )


@pytest.mark.parametrize(
    ("rules", "size", "available", "during", "at_end"),
    [
        ("128", 10, 130, 128, 128),
        ("128", 10, 100, 0, 0),
        ("128,64", 10, 100, 0, 64),
        ("16:32,64", 10, 40, 0, 32),
        ("16:32,64", 10, 20, 0, 20),
        ("16:32,64", 10, 15, 0, 0),
        ("64=128/256=64,32", 100, 130, 128, 128),
        ("64=128/256=64,32", 200, 70, 64, 64),
        ("64=128/256=64,32", 200, 40, 0, 32),
    ],
)
def test_rules_choose_minibatch_sizes(
    rules: str, size: int, available: int, during: int, at_end: int
) -> None:
    parsed = MergingRules.parse(rules)
    assert parsed.minibatch_size(size, available, ended=False) == during
    assert parsed.minibatch_size(size, available, ended=True) == at_end


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a number or a range"),
        ("64/32", "'64' does not begin with a size of examples and ="),
        ("1=2/1=3", "the size 1 of examples is repeated"),
        ("8:4", "the range '8:4' is empty or begins with 0"),
        ("a=4", "'a=4' does not begin with a size"),
    ],
)
def test_wrong_rules_are_explained(text: str, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        MergingRules.parse(text)


def test_only_examples_of_equal_structure_are_merged_and_the_rest_is_discarded() -> None:
    stats = MergingStats()
    egs = [example(rows) for rows in (3, 5, 3, 5, 3, 3, 5)]
    found = [key for key, _ in merged(egs, MergingRules.parse("2"), stats)]
    assert found == ["merged-0-2", "merged-1-2", "merged-2-2"]
    assert stats.discarded == {5: 1}


def test_shuffling_keeps_every_item_and_repeats_with_the_seed() -> None:
    for size in (0, 1, 7, 1000):
        first = list(shuffled(range(100), size, seed=3))
        assert sorted(first) == list(range(100))
        assert first == list(shuffled(range(100), size, seed=3))
    assert list(shuffled(range(100), 1, 3)) == list(range(100))
    assert list(shuffled(range(100), 20, 3)) != list(shuffled(range(100), 20, 4))


def test_an_example_becomes_tensors() -> None:
    network = read_model(GOLDEN / "plain/init.raw").network
    _, eg = next(read_examples(f"ark:{GOLDEN}/egs.ark"))
    minibatch = example_minibatch(eg, network)
    assert minibatch.sequences == 5
    assert minibatch.inputs["input"].shape == (5, 16, 13)
    assert dict(minibatch.request.inputs)["input"].start == -4
    targets = minibatch.targets["output"]
    np.testing.assert_array_equal(
        minibatch.inputs["input"].reshape(80, 13), eg.io[0].features.dense()
    )
    dense = torch.zeros(5, 8, 9).scatter_add(-1, targets.ids, targets.weights)
    np.testing.assert_allclose(dense.reshape(40, 9), eg.io[1].features.dense(), rtol=1e-6)


def test_times_of_an_example_may_be_irregular() -> None:
    network = read_model(GOLDEN / "plain/init.raw").network
    _, eg = next(read_examples(f"ark:{GOLDEN}/egs.ark"))
    features, targets = eg.io
    kept = np.isin(targets.indexes[:, 1], (0, 1, 5))
    some = NnetIo("output", targets.indexes[kept], FullMatrix(targets.features.dense()[kept]))
    minibatch = example_minibatch(Example((features, some)), network)
    module = compile_network(network).train()
    outputs = module(minibatch.inputs, minibatch.request)["output"]
    assert outputs.shape == (5, 3, 9)
    assert list(dict(minibatch.request.outputs)["output"]) == [0, 1, 5]


def test_an_example_that_does_not_fit_the_network_is_refused() -> None:
    network = read_model(GOLDEN / "plain/init.raw").network
    with pytest.raises(NnetError, match="'input' has dimension 2, the network's 13"):
        example_minibatch(example(3), network)
    shuffled_rows = Example(
        (NnetIo("input", frame_indexes(0, 3)[::-1].copy(), FullMatrix(np.zeros((3, 13), "f4"))),)
    )
    with pytest.raises(NnetError, match="indexes of 'input' in an example are not regular"):
        example_minibatch(shuffled_rows, network)
