"""Several outputs trained from features, each towards targets of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnet.data.tables import read_matrices, read_table
from nnet.data.targets import read_target
from nnet.data.writers import AlignmentWriter, MatrixWriter
from nnet.errors import NnetError
from nnet.modelfile.model import Model
from nnet.training.feeds.tables import Tables, targets_by_output
from tests.training.test_training_runs import events

Run = Callable[..., Path]
Variant = Callable[[str, str], Model]
SECOND = "output-layer name=output dim=4 input=tdnn2\noutput-layer name=second input=tdnn2 dim=6 "


@pytest.fixture
def model(variant: Variant) -> Model:
    """With a second output, which is trained towards features."""
    quadratic = "objective-type=quadratic include-log-softmax=false"
    return variant("output-layer name=output dim=4", SECOND + quadratic)


def both(tables: Tables) -> Tables:
    return replace(tables, targets={"": tables.targets, "second": tables.feats})


def test_each_output_learns_from_its_own_targets(run: Run, model: Model, tables: Tables) -> None:
    final = run("out", model=model, data=both(tables), num_epochs=6, initial_effective_lrate=0.01)
    first, *_, last = events(final, "validation")
    assert set(last["outputs"]) == {"output", "second"}
    assert last["outputs"]["output"]["accuracy"] > 0.8
    before, after = (event["outputs"]["second"]["objective"] for event in (first, last))
    assert after > 0.7 * before
    log = (final.parent / "train.log").read_text()
    assert re.search(r"Overall average objective function for 'second' is", log)


def test_an_output_that_is_trained_beside_another_sees_the_same_targets(
    run: Run, model: Model, tables: Tables
) -> None:
    """Without a way back from the second output, the first is trained as if it were alone."""
    options: dict[str, Any] = {"optimizer": "sgd", "max_grad_norm": 0.0, "num_epochs": 1}
    alone = events(run("alone", model=model, data=tables, **options), "minibatch")
    beside = events(run("both", model=model, data=both(tables), **options), "minibatch")
    assert beside[0]["outputs"]["output"] == alone[0]["outputs"]["output"]


def test_utterances_may_have_targets_for_one_output_alone(
    run: Run, variant: Variant, tables: Tables, tmp_path: Path
) -> None:
    """As in multilingual training."""
    model = variant("output-layer name=output dim=4", SECOND.replace("dim=6", "dim=4"))
    known = dict(read_table(str(tables.targets), read_target))
    with (
        AlignmentWriter(f"ark:{tmp_path}/even.ark") as even,
        AlignmentWriter(f"ark:{tmp_path}/odd.ark") as odd,
    ):
        for number, (name, ids) in enumerate(known.items()):
            (odd if number % 2 else even).write(name, ids)
    named = {"output": f"ark:{tmp_path}/even.ark", "second": f"ark:{tmp_path}/odd.ark"}
    data = replace(tables, targets=named)
    final = run("out", model=model, data=data, num_epochs=8, initial_effective_lrate=0.01,
                valid_share=0.2)  # fmt: skip
    outputs = events(final, "validation")[-1]["outputs"]
    assert min(output["accuracy"] for output in outputs.values()) > 0.6
    weights = [sum(o["weight"] for o in e["outputs"].values()) for e in events(final, "minibatch")]
    assert weights == [event["weight"] for event in events(final, "minibatch")]


def test_options_name_outputs() -> None:
    given = ["ark:gunzip -c a=b.gz |", "output-1=scp,p:x.scp", "out.2=ark:y"]
    assert targets_by_output("--targets", given) == {
        "": "ark:gunzip -c a=b.gz |",
        "output-1": "scp,p:x.scp",
        "out.2": "ark:y",
    }
    assert targets_by_output("--targets", ["output=ali.ark"]) == {"output": "ali.ark"}
    with pytest.raises(NnetError, match=r"--targets is given twice for one output: ark:a and ark:"):
        targets_by_output("--targets", ["ark:a", "ark:b"])
    with pytest.raises(NnetError, match="given twice for output 'x': ark:a and ark:b"):
        targets_by_output("--targets", ["x=ark:a", "x=ark:b"])


def test_mistakes_are_named(
    run: Run, variant: Variant, model: Model, tables: Tables, tmp_path: Path
) -> None:
    with pytest.raises(NnetError, match="outputs are output, second; expected: one named 'third'"):
        run("a", model=model, data=replace(tables, targets={"third": tables.targets}))
    twice = {"": tables.targets, "output": tables.targets}
    with pytest.raises(NnetError, match="twice for output 'output', with its name and without"):
        run("twice", model=model, data=replace(tables, targets=twice))
    file = replace(tables, targets={"output": "ali.ark"})
    with pytest.raises(NnetError, match=r"did you mean 'ark:ali.ark'"):
        run("file", model=model, data=file)
    renamed = variant("output-layer name=output dim=4", SECOND.replace("=output", "=other"))
    with pytest.raises(NnetError, match="outputs are other, second; expected: one named 'output'"):
        run("renamed", model=renamed, data=replace(tables, targets={"other": tables.targets}))
    assert not (tmp_path / "renamed").exists()
    valid = replace(both(tables), valid_feats=tables.feats, valid_targets=tables.targets)
    with pytest.raises(NnetError, match="--valid-targets are for other outputs than --targets"):
        run("b", model=model, data=valid)
    with MatrixWriter(f"ark:{tmp_path}/wide.ark") as writer:
        for name, rows in read_matrices(tables.feats):
            writer.write(name, np.concatenate((rows, rows), axis=1))
    wide = {"": tables.targets, "second": f"ark:{tmp_path}/wide.ark"}
    with pytest.raises(NnetError, match="the targets have dimension 12\nexpected: 6, the dim"):
        run("c", model=model, data=replace(tables, targets=wide))
