"""`nnet get-egs`: examples cut from utterances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.data.examples import read_examples
from nnet.data.posteriors import Posterior
from nnet.data.writers import AlignmentWriter, MatrixWriter, PosteriorWriter, VectorWriter
from nnet.modelfile.examples import Example
from nnet.modelfile.general_matrix import CompressedMatrix, SparseMatrix

LENGTHS = {"a": 31, "b": 20, "short": 4}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Features whose first column is the frame, alignments that are frame % 7, and others."""
    random = np.random.default_rng(0)
    with (
        MatrixWriter(f"ark,scp:{tmp_path}/feats.ark,{tmp_path}/feats.scp") as feats,
        AlignmentWriter(f"ark:{tmp_path}/ali.ark") as alignments,
        PosteriorWriter(f"ark:{tmp_path}/post.ark") as posteriors,
        MatrixWriter(f"ark:{tmp_path}/dense.ark") as dense,
        VectorWriter(f"ark:{tmp_path}/ivectors.ark") as ivectors,
    ):
        for number, (name, length) in enumerate(LENGTHS.items()):
            rows = random.standard_normal((length, 3)).astype(np.float32)
            rows[:, 0] = np.arange(length)
            feats.write(name, rows)
            alignments.write(name, (np.arange(length) % 7).astype(np.int32))
            frames = [[(t % 7, 0.75), ((t + 1) % 7, 0.25)] for t in range(length)]
            posteriors.write(name, Posterior.of(frames))
            dense.write(name, rows[:, :2])
            ivectors.write(name, np.full(4, number, np.float32))
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def cut(tables: Path, targets: str, *options: object) -> dict[str, Example]:
    egs = f"ark:{tables}/egs.ark"
    feats = f"scp:{tables}/feats.scp"
    assert run("get-egs", feats, f"ark:{tables}/{targets}", egs, *options) == 0
    return dict(read_examples(egs))


def test_an_example_is_a_chunk_with_its_context_and_targets(tables: Path) -> None:
    options = ("--num-pdfs", 7, "--num-frames", "8,5", "--left-context", 4, "--right-context", 2)
    found = cut(tables, "ali.ark", *options, "--compress", "false")
    assert {key.rpartition("-")[0] for key in found} == {"a", "b"}
    for key, example in found.items():
        name, _, start = key.rpartition("-")
        features, targets = example.io
        frames = int(start) + features.indexes[:, 1]
        wanted = frames.clip(0, LENGTHS[name] - 1)
        np.testing.assert_array_equal(features.features.dense()[:, 0], wanted)
        count = len(targets.indexes)
        assert count in (8, 5)
        assert features.indexes[:, 1].tolist() == list(range(-4, count + 2))
        labels = targets.features.dense()
        assert labels.shape == (count, 7)
        assert (labels.argmax(1) == (int(start) + np.arange(count)) % 7).all()
        assert ((labels > 0).sum(1) == 1).all()


def test_examples_are_of_one_frame_unless_others_are_asked_for(tables: Path) -> None:
    found = cut(tables, "ali.ark", "--num-pdfs", 7)
    short = {f"short-{t}" for t in range(4)}
    assert set(found) == {f"a-{t}" for t in range(31)} | {f"b-{t}" for t in range(20)} | short
    assert all((eg.io[1].features.dense() == 1).sum() == 1 for eg in found.values())


def test_context_at_the_edges_of_an_utterance_may_be_different(tables: Path) -> None:
    edges = ("--left-context-initial", 0, "--right-context-final", 1)
    found = cut(tables, "ali.ark", "--num-pdfs", 7, "--num-frames", 10, "--left-context", 6, *edges)
    firsts = [eg.io[0].indexes[0, 1] for eg in found.values()]
    assert sorted(set(firsts)) == [-6, 0]
    lasts = [eg.io[0].indexes[-1, 1] for eg in found.values()]
    assert sorted(set(lasts)) == [9, 10]


def test_posteriors_are_sparse_and_subsampled(tables: Path) -> None:
    options = ("--num-pdfs", 7, "--num-frames", 9, "--frame-subsampling-factor", 3)
    found = cut(tables, "post.ark", *options, "--ivectors", f"ark:{tables}/ivectors.ark")
    for key, example in found.items():
        features, ivector, targets = example.io
        assert isinstance(features.features, CompressedMatrix)
        assert ivector.features.dense()[0, 0] == list(LENGTHS).index(key[0])
        assert isinstance(targets.features, SparseMatrix)
        assert targets.indexes[:, 1].tolist() == [0, 3, 6]
        start = int(key.rpartition("-")[2])
        assert (targets.features.ids.reshape(3, 2)[:, 0] == (start + 3 * np.arange(3)) % 7).all()


def test_targets_may_be_matrices(tables: Path) -> None:
    found = cut(tables, "dense.ark", "--num-targets", 2, "--num-frames", 5, "--compress", "false")
    for key, example in found.items():
        start = int(key.rpartition("-")[2])
        values = example.io[1].features.dense()
        np.testing.assert_array_equal(values[:, 0], np.arange(start, start + 5))


def test_the_same_seed_gives_the_same_file(tables: Path) -> None:
    contents = []
    for seed in (3, 3, 4):
        cut(tables, "ali.ark", "--num-pdfs", 7, "--num-frames", 10, "--srand", seed)
        contents.append((tables / "egs.ark").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--num-pdfs is 0"),
        (("--num-pdfs", 7, "--num-frames", "8;5"), "--num-frames is '8;5'; expected: frames"),
        (("--num-pdfs", 7, "--num-frames", "0"), "expected: frames, such as 8"),
        (("--num-pdfs", 5), "expected"),
    ],
)
def test_options_that_do_not_fit(
    options: tuple[object, ...], message: str, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"scp:{tables}/feats.scp", f"ark:{tables}/ali.ark", f"ark:{tables}/egs.ark")
    assert run("get-egs", *arguments, *options) == 1
    assert message in capsys.readouterr().err
    assert not (tables / "egs.ark").exists()
