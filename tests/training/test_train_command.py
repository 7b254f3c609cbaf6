"""`nnet train` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.data.tables import read_matrices, read_table
from nnet.data.targets import read_target
from nnet.data.writers import AlignmentWriter
from nnet.modelfile.model import Model, model_bytes, read_model, write_model
from nnet.modelfile.transition_ids import TransitionIds, chain_topology, make_transition_model
from nnet.modelfile.transitions import write_transition_model
from nnet.modelfile.trees import monophone_tree
from nnet.modelfile.writing import BinaryWriter, save_bytes
from nnet.training.feeds.tables import Tables

XCONFIG = """
input dim=6 name=input
relu-batchnorm-layer name=tdnn1 dim=16 input=Append(-1,0,1)
output-layer name=output dim=4
"""
OPTIONS = ["--num-epochs", "1", "--chunk-width", "30,20", "--num-threads", "1", "--no-tensorboard"]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.xconfig"
    path.write_text(XCONFIG)
    return path


def nnet(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def data(tables: Tables) -> list[str]:
    return ["--feats", tables.feats, "--targets", tables.targets]


def test_an_xconfig_and_tables_are_enough(
    net: Path, tables: Tables, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nnet("train", net, tmp_path / "out", *data(tables), *OPTIONS) == 0
    out, err = capfd.readouterr()
    assert out == f"{tmp_path}/out/final.raw\n"
    assert "epoch     1/1   train" in err
    assert (tmp_path / "out" / "final.raw").exists()


def test_chunks_of_a_recurrent_network_get_more_context(tables: Tables, tmp_path: Path) -> None:
    net = tmp_path / "lstm.xconfig"
    net.write_text(
        XCONFIG.replace(
            "output-layer",
            "fast-lstmp-layer name=lstm cell-dim=8 recurrent-projection-dim=4 "
            "non-recurrent-projection-dim=4 delay=-3\noutput-layer",
        )
    )
    models = []
    for number, context in enumerate(([], ["10"], ["10", "--chunk-left-context-initial", "0"])):
        options = ["--chunk-left-context", *context] if context else []
        out = tmp_path / f"out{number}"
        assert nnet("train", net, out, *data(tables), *OPTIONS, *options) == 0
        models.append((out / "final.raw").read_bytes())
    assert len(set(models)) == 3


def test_training_starts_from_a_model_too(
    net: Path, tables: Tables, tmp_path: Path, variant: Callable[[str, str], Model]
) -> None:
    write_model(variant("", ""), tmp_path / "start.raw")
    options = [*data(tables), *OPTIONS, "--num-epochs", "2"]
    assert nnet("train", tmp_path / "start.raw", tmp_path / "out", *options) == 0
    trained = (tmp_path / "out" / "final.raw").read_bytes()
    assert trained.startswith(b"\0B<Nnet3>")
    assert trained != model_bytes(variant("", ""))


def test_an_acoustic_model_stays_one(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "legacy" / "mdl"
    before = read_model(golden / "nnet3.mdl")
    with AlignmentWriter(f"ark:{tmp_path}/ali.ark") as writer:
        for name, features in read_matrices(f"ark:{golden}/feats.ark"):
            writer.write(name, np.arange(len(features)) % 9)
    tables = Tables(feats=f"ark:{golden}/feats.ark", targets=f"ark:{tmp_path}/ali.ark")
    options = [*data(tables), *OPTIONS, "--valid-share", "0"]
    assert nnet("train", golden / "nnet3.mdl", tmp_path / "out", *options) == 0
    after = read_model(tmp_path / "out" / "final.mdl")
    transitions, trained = model_bytes(after).split(b"<Nnet3>")
    assert model_bytes(before).split(b"<Nnet3>")[0] == transitions
    assert model_bytes(before).split(b"<Nnet3>")[1] != trained
    assert after.priors.shape == before.priors.shape
    assert (after.priors != before.priors).any()
    np.testing.assert_allclose(after.priors.sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--feats", "feats.scp"], "did you mean 'scp:feats.scp'?"),
        (["--feats", "scp:none.scp"], "none.scp: cannot read: No such file or directory"),
        (
            ["--optimizer", "adam"],
            "natural-gradient; did you mean 'adamw'?",
        ),
        (["--chunk-width", "wide"], "--chunk-width is 'wide'"),
        (["--dropout", "0.1"], "--dropout has no effect here; it applies to networks with dropout"),
        (["--device", "gpu"], "--device is 'gpu', expected cpu, cuda or cuda:N"),
        (["--valid-feats", "ark:x"], "--valid-feats and --valid-targets come together"),
    ],
)
def test_mistakes_give_one_message_and_status_1(
    net: Path,
    tables: Tables,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: list[str],
    message: str,
) -> None:
    assert nnet("train", net, tmp_path / "out", *data(tables), *OPTIONS, *change) == 1
    error = capfd.readouterr().err
    assert error.startswith("nnet: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


FROM_EGS = ["--egs", "ark:egs"]
FROM_FEATS = ["--feats", "ark:feats", "--targets", "ark:ali"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*FROM_EGS, "--minibatch-size=2"], "with --feats or with --optimizer adamw or sgd"),
        ([*FROM_EGS, "--chunk-width=4"], "with --feats or with --optimizer adamw or sgd"),
        ([*FROM_EGS, "--frame-subsampling-factor=3"], "with --feats or with --den-fst or with"),
        ([*FROM_EGS, "--ivectors=ark:/no/such/file"], "with --feats"),
        ([*FROM_EGS, "--lda-opts=--dim=5", "--no-lda"], "without --no-lda"),
        ([*FROM_EGS, "--max-grad-norm=0.1"], "with --optimizer adamw or sgd"),
        ([*FROM_EGS, "--weight-decay=0.5"], "with --optimizer adamw or sgd"),
        ([*FROM_EGS, "--valid-share=0.5"], "with --feats and without --valid-feats"),
        ([*FROM_EGS, "--valid-every=5"], "with validation data (--valid-egs, --valid-feats or"),
        ([*FROM_FEATS, "--max-param-change=0.001"], "with --optimizer natural-gradient"),
        ([*FROM_FEATS, "--backstitch-training-scale=1"], "with --optimizer natural-gradient"),
        ([*FROM_FEATS, "--momentum=0.99"], "with --optimizer sgd or natural-gradient"),
        ([*FROM_FEATS, "--l2-regularize-factor=100"], "with --optimizer natural-gradient"),
        ([*FROM_FEATS, "--xent-regularize=5"], "with --den-fst"),
        ([*FROM_FEATS, "--leaky-hmm-coefficient=9"], "with --den-fst"),
        ([*FROM_FEATS, "--apply-deriv-weights"], "with --den-fst"),
        ([*FROM_FEATS, "--left-tolerance=3"], "with --den-fst and with --feats"),
        ([*FROM_FEATS, "--egs-minibatch-size=4"], "with --egs"),
        ([*FROM_FEATS, "--online-ivector-period=5"], "with --online-ivectors"),
        ([*FROM_FEATS, "--average-every=5"], "with --distributed average"),
        ([*FROM_FEATS, "--shrink-saturation-threshold=0.2"], "with --shrink-value below 1"),
        ([*FROM_FEATS, "--resume", "--force"], "without --resume"),
    ],
)
def test_an_option_without_effect_is_an_error_that_says_when_it_has_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nnet("train", "net", "out", *words) == 1
    error = capsys.readouterr().err
    assert " has no effect here; it applies " + message in error
    assert len(error.splitlines()) == 1


def test_options_of_an_estimated_transform_need_one(
    net: Path, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nnet("train", net, tmp_path / "out", *data(tables), "--lda-opts=--dim=5") == 1
    message = "--lda-opts has no effect here; it applies to an xconfig with a fixed-affine-layer"
    assert message in capsys.readouterr().err


def test_alignments_of_transition_ids_are_mapped_by_their_model(
    net: Path, tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topology, tree = chain_topology([1, 2]), monophone_tree({1: 2, 2: 2})
    transitions = make_transition_model(topology, tree)
    writer = BinaryWriter()
    write_transition_model(writer, transitions)
    model = tmp_path / "0.trans_mdl"
    save_bytes(bytes(writer), model)
    pdfs = TransitionIds(transitions).pdfs
    first = {int(pdf): place for place, pdf in reversed([*enumerate(pdfs)])}
    with AlignmentWriter(f"ark:{tmp_path}/tid.ark") as ids:
        for name, target in read_table(tables.targets, read_target):
            ids.write(name, np.array([first[int(pdf)] for pdf in target]))
    words = ["--feats", tables.feats, "--targets", f"ark:{tmp_path}/tid.ark"]
    assert nnet("train", net, tmp_path / "a", *words, "--ali-model", model, *OPTIONS) == 0
    assert nnet("train", net, tmp_path / "b", *data(tables), *OPTIONS) == 0
    assert (tmp_path / "a/final.raw").read_bytes() == (tmp_path / "b/final.raw").read_bytes()
    capsys.readouterr()
    assert nnet("train", net, tmp_path / "c", *words, *OPTIONS) == 1
    remedy = "for transition-ids (Kaldi's ali.*.gz) give their model as --ali-model"
    assert remedy in capsys.readouterr().err
    net.write_text(XCONFIG.replace("dim=4", "dim=5"))
    assert nnet("train", net, tmp_path / "d", *words, "--ali-model", model, *OPTIONS) == 1
    assert "has 4 pdfs, the network's output has dimension 5" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compute-prob", "combine"])
@pytest.mark.parametrize("classes", [3, 5])
def test_examples_with_another_number_of_classes_are_refused(
    command: str,
    classes: int,
    net: Path,
    tables: Tables,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with AlignmentWriter(f"ark:{tmp_path}/ali") as writer:
        for name, target in read_table(tables.targets, read_target):
            writer.write(name, np.minimum(target, 2))
    words = [tables.feats, f"ark:{tmp_path}/ali", f"ark:{tmp_path}/egs", f"--num-pdfs={classes}"]
    context = ["--left-context=1", "--right-context=1", "--num-frames=8"]
    assert nnet("get-egs", *words, *context) == 0
    raw, egs = tmp_path / "n.raw", f"ark:{tmp_path}/egs"
    assert nnet("init", net, raw) == 0
    capsys.readouterr()
    arguments = {
        "train": [raw, tmp_path / "out", "--egs", egs],
        "compute-prob": [raw, egs],
        "combine": [raw, raw, egs, tmp_path / "out"],
    }
    assert nnet(command, *arguments[command]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"targets of 'output' have {classes} classes, the network's output has dimens" in error
    assert not (tmp_path / "out").exists()


def test_a_missing_network_is_named(
    tables: Tables, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nnet("train", tmp_path / "no.xconfig", tmp_path / "out", *data(tables)) == 1
    assert "no.xconfig" in capfd.readouterr().err


def test_mistakes_are_found_without_torch(net: Path, tables: Tables, tmp_path: Path) -> None:
    net.write_text(XCONFIG.replace("dim=6", "dim=40"))
    words = ["train", str(net), str(tmp_path / "out"), *data(tables)]
    program = (
        "import sys\n"
        "from nnet.commands.main import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'torch' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "1 False\n", run.stderr
    assert "the features have dimension 6" in run.stderr


def test_a_killed_run_is_resumed_to_the_same_bytes(
    net: Path, tables: Tables, tmp_path: Path
) -> None:
    options = [*data(tables), *OPTIONS, "--num-epochs", "40", "--checkpoint-every", "3"]
    command = [sys.executable, "-m", "nnet.commands.main", "train", str(net)]
    with subprocess.Popen([*command, str(tmp_path / "killed"), *options]) as process:
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "killed").glob("checkpoints/step-*"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
    assert not (tmp_path / "killed" / "final.raw").exists()
    assert nnet("train", net, tmp_path / "killed", *options, "--resume") == 0
    assert nnet("train", net, tmp_path / "whole", *options) == 0
    killed, whole = (tmp_path / name / "final.raw" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
