"""LDA-like input transforms: nnet-get-feature-transform's formulas, and `nnet train --lda`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnet.commands.main import main
from nnet.data.chain.minibatch import chain_minibatch
from nnet.data.examples import read_objects
from nnet.data.tables import read_matrices, read_table
from nnet.data.targets import read_target
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.modelfile.chain_examples import read_chain_example
from nnet.modelfile.loading import read_matrix
from nnet.modelfile.model import read_model
from nnet.modelfile.networks import parse_network
from nnet.plan.request import Request, TimeRange
from nnet.runtime.compiled import compile_network
from nnet.training.feeds.tables import Tables
from nnet.training.input_transform import _classes, input_network, only_target
from nnet.training.lda import (
    LdaStatistics,
    TransformOptions,
    UnknownTransform,
    feature_transform,
    pruned,
)
from tests.training.kaldi_training import GOLDEN

RANDOM = np.random.default_rng(7)
CLASSES = RANDOM.integers(0, 12, 3000)
CENTERS = RANDOM.standard_normal((12, 5)) * [3.0, 1.0, 0.3, 0.0, 0.0] + [1.0, -2.0, 0.0, 4.0, 0.0]
MIX = RANDOM.standard_normal((5, 5))
ROWS = ((CENTERS[CLASSES] + RANDOM.standard_normal((3000, 5))) @ MIX).astype(np.float32)


def statistics(weights: np.ndarray | None = None) -> LdaStatistics:
    found = LdaStatistics(12, 5)
    found.add(ROWS, CLASSES, np.ones(3000, np.float32) if weights is None else weights)
    return found


def covariances(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Within classes and between them, by their definitions."""
    means = np.array([rows[c == CLASSES].mean(0) for c in range(12)])
    share = np.bincount(CLASSES, minlength=12) / len(rows)
    offset = means - rows.mean(0)
    within = rows - means[CLASSES]
    return within.T @ within / len(rows), (offset.T * share) @ offset


def transformed(options: TransformOptions) -> np.ndarray:
    matrix = feature_transform(statistics(), options).astype(np.float64)
    return ROWS @ matrix[:, :-1].T + matrix[:, -1]


def test_statistics_are_the_covariances() -> None:
    total, between, mean = statistics().covariances()
    within, expected = covariances(ROWS.astype(np.float64))
    np.testing.assert_allclose(mean, ROWS.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(between, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(total - between, within, rtol=1e-6, atol=1e-6)


def test_without_scaling_it_is_linear_discriminant_analysis() -> None:
    rows = transformed(TransformOptions(within_class_factor=1.0, max_singular_value=0.0))
    within, between = covariances(rows)
    np.testing.assert_allclose(rows.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(within, np.eye(5), atol=1e-4)
    np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=1e-3)
    assert (np.diff(np.diag(between)) < 0).all()


def test_directions_in_which_classes_hardly_differ_are_scaled_down() -> None:
    plain = transformed(TransformOptions(within_class_factor=1.0, max_singular_value=0.0))
    ratios = np.diag(covariances(plain)[1])
    rows = transformed(TransformOptions(within_class_factor=0.01, max_singular_value=0.0))
    np.testing.assert_allclose(rows.var(0), 0.01 + ratios, rtol=1e-3, atol=1e-4)


def test_singular_values_are_limited_and_dimensions_chosen() -> None:
    options = TransformOptions(dim=3, within_class_factor=1.0, max_singular_value=0.0)
    whole = feature_transform(statistics(), options)
    assert whole.shape == (3, 6)
    values = np.linalg.svd(whole[:, :-1], compute_uv=False)
    limit = float(values[:2].mean())
    limited = feature_transform(statistics(), TransformOptions(True, 3, 1.0, limit))
    found = np.linalg.svd(limited[:, :-1], compute_uv=False)
    np.testing.assert_allclose(found, np.minimum(values, limit), rtol=1e-5)
    np.testing.assert_allclose(limited[:, -1], -limited[:, :-1] @ ROWS.mean(0), rtol=1e-3)
    without = feature_transform(statistics(), TransformOptions(remove_offset=False))
    assert (without[:, -1] == 0).all()


def test_any_linear_transform_of_the_features_is_undone() -> None:
    options = TransformOptions(within_class_factor=0.01, max_singular_value=0.0)
    before = feature_transform(statistics(), options).astype(np.float64)
    other = LdaStatistics(12, 5)
    mixed = (ROWS @ RANDOM.standard_normal((5, 5)) + 3.0).astype(np.float32)
    other.add(mixed, CLASSES, np.ones(3000, np.float32))
    after = feature_transform(other, options).astype(np.float64)
    ours = ROWS @ before[:, :-1].T + before[:, -1]
    theirs = mixed @ after[:, :-1].T + after[:, -1]
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-2)


def test_pruned_weights_keep_their_expectation() -> None:
    weights = np.tile(np.float32([0.5, 5.0, -1.0, 4.0]), (20000, 1))
    found = pruned(weights, 4.0, np.random.default_rng(0))
    assert set(np.unique(found)) == {-4.0, 0.0, 4.0, 5.0}
    np.testing.assert_allclose(found.mean(0), [0.5, 5.0, -1.0, 4.0], atol=0.04)
    assert pruned(weights, 0.0, np.random.default_rng(0)) is weights


def test_options_have_kaldis_names() -> None:
    options = TransformOptions.parse("--dim=40 --within-class-factor=0.0001 --remove-offset=false")
    assert options == TransformOptions(False, 40, 0.0001, 5.0)
    with pytest.raises(NnetError, match="did you mean '--within-class-factor'"):
        TransformOptions.parse("--within-class-facto=1")
    with pytest.raises(NnetError, match="--lda-opts has '--dim=many'; expected"):
        TransformOptions.parse("--dim=many")


def test_too_little_data_is_said_so() -> None:
    with pytest.raises(NnetError, match="no frame was counted for the LDA-like transform"):
        feature_transform(LdaStatistics(3, 4), TransformOptions())
    with pytest.raises(NnetError, match="is asked for 9 of 5 dimensions"):
        feature_transform(statistics(), TransformOptions(dim=9))


def test_chain_examples_are_counted_by_the_posteriors_of_what_was_spoken() -> None:
    """As nnet3-chain-acc-lda-stats does: each frame counts once, shared by its likely pdfs."""
    folder = GOLDEN / "training/chain"
    model = read_model(folder / "init.raw").network
    _, example = next(read_objects(f"ark:{folder}/cegs_unmerged.ark", read_chain_example))
    minibatch = only_target(chain_minibatch(example, model), "output")
    assert minibatch is not None
    targets = minibatch.targets["output"]
    dim = node_dim(model, "output")
    places, classes, weights = _classes(targets, dim)
    counts = np.bincount(places, weights, minlength=targets.frames)
    np.testing.assert_allclose(counts, 1.0, rtol=1e-5)
    assert classes.max() < dim


def test_a_delay_takes_later_frames_for_a_target() -> None:
    text = XCONFIG.format(file="lda.mat")
    parsed = parse_network(text, "net")
    layer = parsed.fixed_affine_layer()
    assert layer is not None
    network = parsed.network(np.random.default_rng(0), zero_transform=True)
    features = torch.arange(60.0).reshape(1, 10, 6)
    for delay in (0, 2):
        part = input_network(network, UnknownTransform(layer.name, TransformOptions(), 0.0, delay))
        module = compile_network(part).eval()
        request = Request.of({"input": TimeRange(0, 10)}, {"output": TimeRange(3, 1)})
        rows = module({"input": features}, request)["output"][0, 0]
        assert rows.tolist() == features[0, 2 + delay : 5 + delay].flatten().tolist()


XCONFIG = """
input dim=6 name=input
fixed-affine-layer name=lda input=Append(-1,0,1) affine-transform-file={file}
relu-batchnorm-layer name=tdnn1 dim=16
output-layer name=output dim=4
"""


@pytest.fixture
def train(tmp_path: Path, tables: Tables) -> Callable[..., int]:
    """Runs `nnet train` with a network whose transform's file is `lda.mat` in this folder."""
    net = tmp_path / "net.xconfig"
    net.write_text(XCONFIG.format(file=tmp_path / "lda.mat"))
    words = [str(net), str(tmp_path / "out"), "--feats", tables.feats, "--targets", tables.targets]
    words += ["--num-epochs", "2", "--chunk-width", "30,20", "--minibatch-size", "4"]
    words += ["--no-tensorboard"]

    def run(*more: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["train", *words, *more])
        return int(end.value.code or 0)

    return run


def test_a_missing_transform_is_estimated_from_the_training_data(
    train: Callable[..., int], tables: Tables, tmp_path: Path
) -> None:
    assert (
        train("--valid-share", "0", "--rand-prune=0", "--lda-opts", "--within-class-factor=0.5")
        == 0
    )
    matrix = read_matrix(tmp_path / "out/lda.mat")
    lda: Any = read_model(tmp_path / "out/final.raw").network.components["lda"]
    np.testing.assert_array_equal(lda.linear, matrix[:, :-1])
    np.testing.assert_array_equal(lda.bias, matrix[:, -1])
    targets = dict(read_table(tables.targets, read_target))
    expected = LdaStatistics(4, 18)
    for name, features in read_matrices(tables.feats):
        padded = np.pad(features, ((1, 1), (0, 0)), mode="edge")
        spliced = np.hstack([padded[:-2], padded[1:-1], padded[2:]])
        ids = np.asarray(targets[name], np.int64)
        expected.add(spliced, ids, np.ones(len(ids), np.float32))
    wanted = feature_transform(expected, TransformOptions(within_class_factor=0.5))
    # The chunks of an epoch leave a few frames out, so this is nearly the same alone.
    kept = np.abs(wanted[0] @ matrix[0]) / np.linalg.norm(wanted[0]) / np.linalg.norm(matrix[0])
    assert kept > 0.97


def test_a_resumed_run_keeps_its_transform_and_a_file_that_is_there_is_used(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--no-lda") == 1
    assert "lda.mat: cannot read" in capsys.readouterr().err
    assert train() == 0
    before = (tmp_path / "out/final.raw").read_bytes()
    assert train("--resume") == 0
    assert (tmp_path / "out/final.raw").read_bytes() == before
    given = np.hstack([np.eye(18), np.zeros((18, 1))]).astype(np.float32)
    text = "\n".join(" ".join(map(str, row)) for row in given)
    (tmp_path / "lda.mat").write_text(f" [\n{text} ]\n")
    (tmp_path / "out").rename(tmp_path / "first")
    assert train() == 0
    assert not (tmp_path / "out/lda.mat").exists()
    lda: Any = read_model(tmp_path / "out/final.raw").network.components["lda"]
    np.testing.assert_array_equal(lda.linear, np.eye(18, dtype=np.float32))


def test_a_network_without_such_a_layer_is_told(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tmp_path / "net.xconfig").read_text().splitlines()
    (tmp_path / "net.xconfig").write_text("\n".join(text[:2] + text[3:]))
    assert train("--lda") == 1
    assert "it applies to an xconfig with a fixed-affine-layer" in capsys.readouterr().err
