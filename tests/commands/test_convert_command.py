"""`nnet convert`: reports, checks, targets and mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import nnet
from nnet.commands.main import main
from nnet.modelfile.model import read_model
from tests.support import GOLDEN, relative_error, table

NNET1 = GOLDEN / "legacy/nnet1"
NNET2 = GOLDEN / "legacy/nnet2"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run("convert", *words) == 1
    return capsys.readouterr().err


def test_the_result_computes_what_the_source_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = NNET1 / "dnn_sigmoid"
    assert run("convert", case / "final.nnet", tmp_path / "final.raw") == 0
    assert "loadable by Kaldi" in capsys.readouterr().err
    target = f"ark:{tmp_path / 'out.ark'}"
    assert run("compute", tmp_path / "final.raw", f"ark:{case / 'feats.ark'}", target) == 0
    found = table(tmp_path / "out.ark")
    for utterance, expected in table(case / "output.ark").items():
        assert relative_error(found[utterance], expected) < 1e-5


def test_log_posteriors_minus_priors(tmp_path: Path) -> None:
    """What decoders want: nnet-forward with --class-frame-counts, and --no-softmax."""
    case = NNET1 / "dnn_sigmoid"
    counts = np.arange(1, 16)
    (tmp_path / "counts").write_text(f" [ {' '.join(map(str, counts))} ]\n")
    transitions = GOLDEN / "legacy/mdl/nnet2.mdl"
    model = tmp_path / "final.mdl"
    words = ["--class-frame-counts", tmp_path / "counts", "--transition-model", transitions]
    assert run("convert", case / "final.nnet", model, *words) == 0
    target = f"ark:{tmp_path / 'out.ark'}"
    assert run("compute", model, f"ark:{case / 'feats.ark'}", target, "--use-priors") == 0
    log_priors = np.log(counts / counts.sum())
    for utterance, posteriors in table(case / "output.ark").items():
        found = table(tmp_path / "out.ark")[utterance]
        assert relative_error(found, np.log(posteriors) - log_priors) < 1e-5


def test_dry_run_only_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", NNET2 / "pnorm/final.raw", tmp_path / "out", "--dry-run") == 0
    assert not (tmp_path / "out").exists()
    assert "2 AffineComponentPreconditionedOnline" in capsys.readouterr().err


def test_verify_compares_on_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = NNET1 / "lstm_projected"
    feats = f"ark:{case / 'feats.ark'}"
    assert run("convert", case / "final.nnet", tmp_path / "out", "--verify", feats) == 0
    assert "utt1: 33 frames, error" in capsys.readouterr().err


def test_legacy_networks_go_to_onnx_directly(tmp_path: Path) -> None:
    case = NNET2 / "multisplice"
    assert run("convert", case / "final.raw", tmp_path / "net.onnx", "--to", "onnx") == 0
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    features = table(case / "feats.ark")
    for utterance, expected in table(case / "output.ark").items():
        (found,) = session.run(["output"], {"input": features[utterance][None]})
        assert relative_error(found[0], expected) < 1e-5


def test_configs_and_files_make_the_same_network_again(tmp_path: Path) -> None:
    case = NNET1 / "cnn"
    folder, again = tmp_path / "configs", tmp_path / "again.raw"
    assert run("convert", case / "final.nnet", folder, "--to", "nnet3-config") == 0
    assert run("init", folder / "final.config", again) == 0
    first = nnet.convert(case / "final.nnet").network.components
    second = read_model(again).network.components
    assert first.keys() == second.keys()
    for name, component in first.items():
        assert type(second[name]) is type(component)
        for key, array in component.parameters().items():
            np.testing.assert_array_equal(second[name].parameters()[key], array)


def test_time_delay_components_become_affine_ones_in_configs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = GOLDEN / "nets/tdnnf/init.raw", tmp_path / "c"
    assert run("convert", source, folder, "--to", "nnet3-config") == 0
    assert "cannot name" not in capsys.readouterr().err
    assert run("init", folder / "final.config", tmp_path / "again.raw") == 0
    networks = [read_model(path).network for path in (source, tmp_path / "again.raw")]
    modules = [nnet.compile(network, outputs=("output",)) for network in networks]
    generator = torch.Generator().manual_seed(1)
    inputs = {n.name: torch.randn(2, 1, n.dim, generator=generator) for n in networks[0].inputs()}
    inputs["input"] = torch.randn(2, 30, inputs["input"].shape[-1], generator=generator)
    first, second = (module(inputs)["output"] for module in modules)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_what_has_no_place_in_configs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = GOLDEN / "nets/fast_lstm_variants/trained.raw"
    assert run("convert", source, tmp_path / "c", "--to", "nnet3-config", "--text") == 0
    printed = capsys.readouterr().err
    assert "cannot name files for the parameters of: " in printed
    assert "cannot hold the batch-norm statistics of: " in printed
    named = printed.split("parameters of: ")[1].split("\n")[0].split(", ")
    for name in named:
        (file,) = (tmp_path / "c").glob(f"{name}.*.mat")
        assert file.read_text().startswith(" [\n")


LOAD_WITHOUT_NNET = """
import sys
sys.modules["nnet"] = None
import torch
program = torch.export.load(sys.argv[1]).module()
torch.save(program(*torch.load(sys.argv[2])), sys.argv[3])
"""


@pytest.mark.parametrize("name", ["tdnnf", "fast_lstm_variants"])
def test_exported_programs_load_without_this_package(tmp_path: Path, name: str) -> None:
    source = GOLDEN / "nets" / name / "trained.raw"
    words = ["--to", "torch-export", "--frames-per-chunk", 6, "--frame-subsampling-factor", 3]
    assert run("convert", source, tmp_path / "net.pt2", *words) == 0
    module = nnet.compile(nnet.load(source), test_mode=True, outputs=("output",))
    request = module.chunk_request(6, subsampling=3, outputs=("output",))
    dims = {node.name: node.dim for node in module.network.inputs()}
    inputs = {n: torch.randn(5, times.count, dims[n]) for n, times in request.inputs}
    torch.save(tuple(inputs.values()), tmp_path / "in.pt")
    places = [str(tmp_path / file) for file in ("net.pt2", "in.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", LOAD_WITHOUT_NNET, *places], check=True, cwd=tmp_path)
    with torch.inference_mode():
        expected = module(inputs, request)["output"]
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, rtol=1e-4, atol=1e-4)


def test_convert_in_python() -> None:
    source = (NNET1 / "rbm/final.nnet").read_bytes()
    assert isinstance(nnet.convert(source), nnet.Model)
    assert isinstance(nnet.convert(source, to="onnx"), bytes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onxx"], "unknown target 'onxx', expected one of nnet3, nnet3-config, onnx"),
        (["--from", "nnet4"], "unknown format 'nnet4', expected one of auto, nnet1, nnet2, nnet3"),
        (["--from", "nnet2"], "expected <NumComponents>, found '<Rbm>'"),
        (["--log-softmax", "perhaps"], "--log-softmax"),
        (["--feature-transform", "none"], "none: cannot read: No such file or directory"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    error = error_of(capsys, NNET1 / "rbm/final.nnet", tmp_path / "out", *words)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_an_nnet3_model_is_nnet3_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, GOLDEN / "nets/tdnnf/trained.raw", tmp_path / "out")
    assert "is a model of nnet3 already" in error
