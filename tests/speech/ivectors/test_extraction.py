"""An i-vector extractor's files, and files that do not fit together."""

import shutil

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.modelfile.gaussians import DiagonalGmm, write_diagonal_gmm
from nnet.modelfile.ivector_extractor import (
    IvectorExtractor,
    read_ivector_extractor,
    write_ivector_extractor,
)
from nnet.modelfile.writing import BinaryWriter
from nnet.speech.ivectors.extraction import read_extraction
from tests.speech.digits import DIGITS


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(DIGITS / "extractor", tmp_path / "extractor")
    return tmp_path / "extractor"


def test_a_configuration_file():
    extraction = read_extraction(DIGITS / "conf" / "ivector_extractor.conf")
    assert extraction.options.max_count == 100
    assert (extraction.splice.left_context, extraction.splice.width) == (3, 7)
    assert (extraction.feature_dim, extraction.ivector_dim) == (40, 30)


def test_a_configuration_file_that_was_copied_from_another_machine(tmp_path):
    text = (DIGITS / "conf" / "ivector_extractor.conf").read_text()
    moved = text.replace("=ivector_extractor/", "=/home/x/exp/online/ivector_extractor/")
    moved = moved.replace("=conf/", "=/home/x/exp/online/conf/")
    shutil.copytree(DIGITS / "extractor", tmp_path / "ivector_extractor")
    shutil.copytree(DIGITS / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "ivector_extractor.conf").write_text(moved)
    extraction = read_extraction(tmp_path / "conf" / "ivector_extractor.conf")
    assert extraction.splice.width == 7


def test_a_folder_has_the_defaults(folder):
    extraction = read_extraction(folder)
    assert extraction.options.max_count == 0
    assert extraction.splice.width == 7


@pytest.mark.parametrize("name", ["final.ie", "final.dubm", "final.mat", "global_cmvn.stats"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(NnetError, match=f"{name}: cannot read"):
        read_extraction(folder)


@pytest.mark.parametrize("name", ["final.ie", "final.dubm", "final.mat"])
def test_a_file_that_was_cut_short(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(NnetError, match=f"{name}: byte .*the file was cut short"):
        read_extraction(folder)


def test_an_extractor_of_another_dimension(folder):
    projections, variances = np.zeros((64, 39, 5)), np.zeros((64, 39 * 20))
    other = IvectorExtractor(np.zeros((0, 0)), np.ones(64), projections, variances, 1.0)
    write_ivector_extractor(other, folder / "final.ie")
    message = "LDA matrix makes 40 dimensions, the diagonal UBM has 40 and the i-vector .* 39"
    with pytest.raises(NnetError, match=message):
        read_extraction(folder)


def test_a_ubm_of_another_training(folder):
    other = DiagonalGmm.of(np.ones(3) / 3, np.zeros((3, 40)), np.ones((3, 40)))
    write_diagonal_gmm(other, folder / "final.dubm")
    with pytest.raises(NnetError, match="UBM has 3 Gaussians and the i-vector extractor 64"):
        read_extraction(folder)


def test_a_transform_for_another_context(folder):
    (folder / "splice_opts").write_text("--left-context=4 --right-context=4\n")
    with pytest.raises(NnetError, match="LDA matrix: a matrix of 40 by 281; expected: 360 columns"):
        read_extraction(folder)


def test_statistics_that_are_none(folder):
    writer = BinaryWriter()
    writer.double_matrix(np.ones((3, 41)))
    (folder / "global_cmvn.stats").write_bytes(bytes(writer))
    with pytest.raises(NnetError, match="expected: CMVN statistics, 2 rows"):
        read_extraction(folder)


def test_weights_that_depend_on_the_ivector(folder):
    known = read_ivector_extractor(folder / "final.ie")
    other = IvectorExtractor(
        np.zeros((64, 30)), np.zeros(0), known.projections, known.inverse_variances, 1.0
    )
    write_ivector_extractor(other, folder / "final.ie")
    with pytest.raises(NnetError, match="--use-weights=true"):
        read_extraction(folder)


def test_a_configuration_file_without_a_file(tmp_path):
    (tmp_path / "x.conf").write_text("--lda-matrix=final.mat\n")
    with pytest.raises(NnetError, match=r"x.conf: --global-cmvn-stats is missing"):
        read_extraction(tmp_path / "x.conf")
