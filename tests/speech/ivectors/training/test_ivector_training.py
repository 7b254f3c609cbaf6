"""Training of UBM and extractor: likelihoods rise, and what made the data is found again."""

import itertools

import numpy as np
import pytest
import torch

from nnet.commands.main import main
from nnet.data.writers import MatrixWriter
from nnet.errors import NnetError
from nnet.modelfile.gaussians import DiagonalGmm
from nnet.modelfile.packed_matrix import unpack
from nnet.speech.ivectors.extraction import read_extraction
from nnet.speech.ivectors.online import offline_ivector
from nnet.speech.ivectors.posteriors import pruned_posteriors
from nnet.speech.ivectors.training.diagonal_ubm import UbmOptions, train_diagonal_ubm
from nnet.speech.ivectors.training.extractor import (
    Accumulator,
    ExtractorModel,
    ExtractorOptions,
    maximize,
)
from nnet.speech.ivectors.training.frames import TrainingData, principal_components
from nnet.speech.transforms import SpliceOptions, splice, transform
from tests.speech.digits import DIGITS, golden

CPU = torch.device("cpu")
MEANS = np.array([[0.0, 8.0], [8.0, 0.0], [-8.0, -8.0]])


def utterances(count, frames=60, seed=0, speakers=0):
    """Frames around three means, which a hidden number shifts along (1, 2) for each utterance."""
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        shift = rng.normal() if not speakers else 2.0 * (number % speakers)
        places = MEANS[rng.integers(0, 3, frames)] + shift * np.array([1.0, 2.0])
        made.append((places + 0.5 * rng.normal(size=places.shape)).astype(np.float32))
    return made


def ubm_of(data, gaussians=3, **options):
    lines = []
    options = UbmOptions(num_gauss=gaussians, num_iters_init=12, **options)
    ubm = train_diagonal_ubm(lambda: data, options, CPU, lines.append)
    return ubm, [float(line.split(": ")[1].split()[0]) for line in lines]


def test_a_ubm_finds_the_gaussians():
    rng = np.random.default_rng(0)
    frames = MEANS[rng.integers(0, 3, 3000)] + np.array([0.5, 1.0]) * rng.normal(size=(3000, 2))
    ubm, _ = ubm_of([frames.astype(np.float32)], initial_gauss_proportion=1.0)
    order = np.argsort(ubm.means[:, 0])
    np.testing.assert_allclose(ubm.means[order], MEANS[[2, 0, 1]], atol=0.15)
    np.testing.assert_allclose(ubm.variances, [[0.25, 1.0]] * 3, atol=0.12)
    np.testing.assert_allclose(ubm.weights, 1 / 3, atol=0.05)


def test_likelihoods_of_a_ubm_rise():
    data = utterances(20)
    ubm, likelihoods = ubm_of(data, 6, num_frames=400, num_iters=3)
    assert len(likelihoods) == 12 + 3
    assert likelihoods[0] < likelihoods[5] < likelihoods[11]
    assert all(a < b + 1e-4 for a, b in itertools.pairwise(likelihoods[12:]))
    assert len(ubm.weights) == 6
    assert ubm.weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_gaussians_of_too_few_frames_are_removed():
    ubm, _ = ubm_of(utterances(2), 6, min_gaussian_occupancy=25.0)
    assert 1 <= len(ubm.weights) < 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([np.ones((5, 2), np.float32)], "5 frames are too few for 3 Gaussians"),
        ([np.ones((500, 2), np.float32)], "dimension 0 of the frames is constant"),
        ([], "0 frames are too few"),
    ],
)
def test_data_that_teach_nothing(data, message):
    with pytest.raises(NnetError, match=message):
        ubm_of(data)


def expectation(model, ubm, data):
    accumulator = Accumulator(model)
    batch = [(x, pruned_posteriors(ubm.log_likelihoods(x), 3, 0.0)) for x in data]
    accumulator.add(batch[:7])
    accumulator.add(batch[7:])
    return accumulator.sums


def trained(data, iterations=6, dim=2, **options):
    ubm = DiagonalGmm.of(np.full(3, 1 / 3), MEANS, np.full((3, 2), 4.0))
    options = ExtractorOptions(dim, iterations, gaussian_min_count=10.0, **options)
    model, objectives = ExtractorModel.begin(ubm, options, CPU), []
    for _ in range(iterations):
        sums = expectation(model, ubm, data)
        objectives.append(sums.objective / float(sums.counts.sum()))
        maximize(model, sums, options)
    return model, ubm, objectives


def test_an_extractor_finds_the_hidden_direction():
    model, _, objectives = trained(utterances(200))
    assert all(a < b + 1e-6 for a, b in itertools.pairwise(objectives))
    direction = np.array([1.0, 2.0])
    for projection in model.projections.numpy():
        np.testing.assert_allclose(np.abs(projection[:, 1]), np.abs(direction), rtol=0.15)
        assert projection[0, 1] * projection[1, 1] > 0
    means = model.projections[:, :, 0].numpy() * model.offset
    np.testing.assert_allclose(means, MEANS, atol=0.5)
    variances = np.diagonal(np.linalg.inv(model.inverse.numpy()), axis1=1, axis2=2)
    np.testing.assert_allclose(variances, 0.25, atol=0.1)


def test_ivectors_have_the_prior_that_is_assumed():
    data = utterances(300)
    model, ubm, _ = trained(data)
    sums = expectation(model, ubm, data)
    mean = (sums.ivector_sum / sums.ivectors).numpy()
    np.testing.assert_allclose(mean, [model.offset, 0.0], atol=0.05)
    second = sums.ivector_scatter / sums.ivectors
    covariance = second.numpy() - np.outer(mean, mean)
    np.testing.assert_allclose(covariance, np.eye(2), atol=0.15)


def test_the_objective_is_the_likelihood_of_the_frames():
    """With one Gaussian the posteriors are 1 and the marginal likelihood has a closed form."""
    data = utterances(3, frames=4)
    ubm = DiagonalGmm.of(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    model = ExtractorModel.begin(ubm, ExtractorOptions(2, 1), CPU)
    expected = 0.0
    projection = model.projections[0].numpy()
    for frames in data:
        stacked = np.tile(projection, (len(frames), 1))
        covariance = stacked @ stacked.T + np.eye(2 * len(frames))
        difference = frames.astype(np.float64).ravel() - stacked[:, 0] * model.offset
        _, determinant = np.linalg.slogdet(2 * np.pi * covariance)
        expected -= 0.5 * (difference @ np.linalg.solve(covariance, difference) + determinant)
    accumulator = Accumulator(model)
    accumulator.add((x, pruned_posteriors(ubm.log_likelihoods(x), 1, 0.0)) for x in data)
    assert accumulator.sums.objective == pytest.approx(expected, rel=1e-6)


def test_iterations_from_kaldis_extractor_raise_the_likelihood_of_other_data():
    extraction = read_extraction(DIGITS / "extractor")
    known = extraction.extractor
    model = ExtractorModel(
        torch.tensor(known.weights),
        torch.tensor(known.projections),
        torch.tensor(unpack(known.inverse_variances)),
        known.prior_offset,
    )
    objectives = []
    for _ in range(3):
        accumulator = Accumulator(model)
        for frames in golden("mfcc_hires").values():
            rows = transform(splice(frames, extraction.splice), extraction.transform)
            likelihoods = extraction.ubm.log_likelihoods(rows)
            posteriors = pruned_posteriors(likelihoods, 5, 0.025)
            accumulator.add([(rows, posteriors.scaled(np.full(len(rows), np.float32(0.1))))])
        objectives.append(accumulator.sums.objective)
        maximize(model, accumulator.sums, ExtractorOptions(30, gaussian_min_count=1.0))
    assert objectives[0] < objectives[1] < objectives[2]


def test_too_few_frames_for_any_gaussian():
    ubm = DiagonalGmm.of(np.full(3, 1 / 3), MEANS, np.full((3, 2), 4.0))
    options = ExtractorOptions(2, 1, gaussian_min_count=1000.0)
    model = ExtractorModel.begin(ubm, options, CPU)
    sums = expectation(model, ubm, utterances(10))
    with pytest.raises(NnetError, match="no Gaussian has 1000 frames"):
        maximize(model, sums, options)


def test_principal_components():
    rng = np.random.default_rng(0)
    frames = (rng.normal(size=(500, 3)) * [1.0, 5.0, 0.1] + 7).astype(np.float32)
    data = TrainingData({"a": frames}, {"a": ("a",)})
    matrix = principal_components(data, SpliceOptions(0, 0), 2)
    np.testing.assert_allclose(np.abs(matrix), [[0, 1, 0], [1, 0, 0]], atol=0.05)
    with pytest.raises(NnetError, match="--pca-dim is 4; expected: at most 3"):
        principal_components(data, SpliceOptions(0, 0), 4)


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code, capsys.readouterr().err


@pytest.fixture
def tables(tmp_path):
    """Features of two speakers, who differ."""
    data = utterances(24, frames=50, speakers=2)
    with MatrixWriter(f"ark:{tmp_path}/f.ark") as writer:
        for number, frames in enumerate(data):
            writer.write(f"u{number:02d}", frames)
    lines = [
        f"s{speaker} " + " ".join(f"u{number:02d}" for number in range(speaker, 24, 2))
        for speaker in (0, 1)
    ]
    (tmp_path / "spk2utt").write_text("\n".join(lines) + "\n")
    (tmp_path / "cmvn.conf").write_text("--cmn-window=100\n")
    return tmp_path


WORDS = ["--num-gauss=3", "--ivector-dim=2", "--num-iters=4", "--gaussian-min-count=1"]
SMALL = [*WORDS, "--splice=0,0", "--pca-dim=2", "--subsample=1", "--num-iters-init=6"]


def test_the_command_makes_a_folder_that_tells_speakers_apart(tables, capsys):
    out = tables / "extractor"
    words = ["train-ivectors", f"ark:{tables}/f.ark", out, *SMALL]
    words += [f"--spk2utt={tables}/spk2utt", f"--online-cmvn-config={tables}/cmvn.conf"]
    status, err = run(capsys, *words)
    assert status == 0
    assert "UBM, iteration 0" in err
    assert "extractor, iteration 3" in err
    names = {"final.ie", "final.dubm", "final.mat", "global_cmvn.stats"}
    assert {path.name for path in out.iterdir()} == names | {"splice_opts", "online_cmvn.conf"}
    extraction = read_extraction(out)
    assert extraction.cmvn.cmn_window == 100
    found = [offline_ivector(extraction, [(x, None)]) for x in utterances(24, 50, 0, 2)]
    groups = np.array(found[0::2]), np.array(found[1::2])
    distance = np.linalg.norm(groups[0].mean(axis=0) - groups[1].mean(axis=0))
    assert distance > 3 * max(group.std(axis=0).max() for group in groups)


def test_the_command_repeats_itself(tables, capsys):
    contents = []
    for name in ("x", "y"):
        words = ["train-ivectors", f"ark:{tables}/f.ark", tables / name, *SMALL, "--srand=3"]
        assert run(capsys, *words)[0] == 0
        contents.append((tables / name / "final.ie").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-gauss=0"], "--num-gauss is 0"),
        (["--ivector-dim=1"], "--ivector-dim is 1"),
        (["--subsample=0"], "--subsample is 0"),
        (["--splice=3"], "--splice is '3'"),
        (["--device=tpu"], "--device is 'tpu'"),
        (["--spk2utt=/nowhere"], "/nowhere: cannot read"),
    ],
)
def test_wrong_options(tables, capsys, words, message):
    given = ["train-ivectors", f"ark:{tables}/f.ark", tables / "x", *SMALL, *words]
    status, err = run(capsys, *given)
    assert status == 1
    assert message in err
    assert not (tables / "x").exists()


def test_a_transform_that_does_not_fit(tables, capsys):
    (tables / "x.mat").write_text(" [\n 1 2 3 4 ]\n")
    without_pca = [word for word in SMALL if not word.startswith("--pca-dim")]
    given = ["train-ivectors", f"ark:{tables}/f.ark", tables / "x", *without_pca]
    status, err = run(capsys, *given, f"--lda-matrix={tables}/x.mat")
    assert status == 1
    assert "--lda-matrix: a matrix of 1 by 4; expected: 2 columns" in err


def test_features_of_several_dimensions(tables, capsys):
    with MatrixWriter(f"ark:{tables}/f.ark") as writer:
        writer.write("a", np.zeros((5, 2), np.float32))
        writer.write("b", np.zeros((5, 3), np.float32))
    status, err = run(capsys, "train-ivectors", f"ark:{tables}/f.ark", tables / "x", *SMALL)
    assert status == 1
    assert "utterance 'b': features of 3 dimensions; those before have 2" in err
