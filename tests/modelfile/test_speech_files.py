"""Files of i-vector extraction: read and written byte for byte, and damaged ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.modelfile.adaptation import (
    AdaptationState,
    IvectorStatistics,
    OnlineCmvnState,
    read_adaptation_state,
    write_adaptation_state,
)
from nnet.modelfile.gaussians import (
    DiagonalGmm,
    FullGmm,
    parse_diagonal_gmm,
    read_diagonal_gmm,
    read_full_gmm,
    write_diagonal_gmm,
    write_full_gmm,
)
from nnet.modelfile.ivector_extractor import read_ivector_extractor, write_ivector_extractor
from nnet.modelfile.loading import open_bytes, open_file
from nnet.modelfile.packed_matrix import pack, read_packed, triangle, unpack, write_packed
from nnet.modelfile.writing import BinaryWriter, TextWriter
from tests.support import GOLDEN

EXTRACTOR = GOLDEN / "digits" / "extractor"


def test_an_extractor_keeps_its_bytes(tmp_path):
    extractor = read_ivector_extractor(EXTRACTOR / "final.ie")
    assert (extractor.gaussians, extractor.feature_dim, extractor.ivector_dim) == (64, 40, 30)
    write_ivector_extractor(extractor, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == (EXTRACTOR / "final.ie").read_bytes()


def test_an_extractor_in_text(tmp_path):
    extractor = read_ivector_extractor(EXTRACTOR / "final.ie")
    write_ivector_extractor(extractor, tmp_path / "x", binary=False)
    again = read_ivector_extractor(tmp_path / "x")
    np.testing.assert_allclose(again.projections, extractor.projections, rtol=1e-6)
    np.testing.assert_allclose(again.inverse_variances, extractor.inverse_variances, rtol=1e-6)
    first = (tmp_path / "x").read_bytes()
    write_ivector_extractor(again, tmp_path / "x", binary=False)
    assert (tmp_path / "x").read_bytes() == first


def test_a_diagonal_ubm_keeps_its_bytes(tmp_path):
    gmm = read_diagonal_gmm(EXTRACTOR / "final.dubm")
    write_diagonal_gmm(gmm, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == (EXTRACTOR / "final.dubm").read_bytes()
    again = DiagonalGmm.of(gmm.weights.astype(float), gmm.means, gmm.variances)
    np.testing.assert_allclose(again.gconsts, gmm.gconsts, rtol=1e-4)
    frames = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    distance = (frames[:, None] - gmm.means) ** 2 / gmm.variances
    expected = np.log(gmm.weights) - 0.5 * (distance + np.log(2 * np.pi * gmm.variances)).sum(
        axis=2
    )
    np.testing.assert_allclose(gmm.log_likelihoods(frames), expected, rtol=1e-4)


def test_a_diagonal_ubm_in_text(tmp_path):
    gmm = read_diagonal_gmm(EXTRACTOR / "final.dubm")
    write_diagonal_gmm(gmm, tmp_path / "x", binary=False)
    again = read_diagonal_gmm(tmp_path / "x")
    np.testing.assert_allclose(again.means_invvars, gmm.means_invvars, rtol=1e-6)


def test_a_full_ubm(tmp_path):
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 4, 4))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(4)
    means = rng.normal(size=(3, 4))
    gmm = FullGmm.of(np.full(3, 1 / 3), means, covariances)
    np.testing.assert_allclose(gmm.means, means, atol=1e-4)
    for binary in (True, False):
        write_full_gmm(gmm, tmp_path / "x", binary)
        again = read_full_gmm(tmp_path / "x")
        np.testing.assert_allclose(again.inv_covars, gmm.inv_covars, rtol=1e-5)
        np.testing.assert_allclose(again.gconsts, gmm.gconsts, rtol=1e-5)


def test_global_cmvn_statistics_keep_their_bytes():
    path = EXTRACTOR / "global_cmvn.stats"
    writer = TextWriter()
    writer.double_matrix(open_file(path).double_matrix())
    assert bytes(writer) == path.read_bytes()


def test_a_transform_keeps_its_bytes():
    path = EXTRACTOR / "final.mat"
    writer = BinaryWriter()
    writer.matrix(open_file(path).matrix())
    assert bytes(writer) == path.read_bytes()


@given(st.integers(0, 9), st.booleans(), st.booleans())
def test_symmetric_matrices(dim, binary, double):
    values = np.random.default_rng(dim).normal(size=triangle(dim))
    writer = BinaryWriter() if binary else TextWriter()
    write_packed(writer, values, double)
    again = read_packed(open_bytes(bytes(writer), "x"))
    np.testing.assert_allclose(again, values, rtol=1e-6)
    np.testing.assert_array_equal(pack(unpack(values)), values)


@pytest.mark.parametrize("binary", [True, False])
def test_an_adaptation_state_keeps_its_bytes(tmp_path, binary):
    rng = np.random.default_rng(0)
    cmvn = OnlineCmvnState(rng.normal(size=(2, 4)), rng.normal(size=(2, 4)))
    stats = IvectorStatistics(rng.normal(size=5), rng.normal(size=15), 7.5, 100.0, 10.0)
    write_adaptation_state(AdaptationState(cmvn, stats), tmp_path / "x", binary)
    loaded = read_adaptation_state(tmp_path / "x")
    np.testing.assert_allclose(loaded.cmvn.speaker, cmvn.speaker, rtol=1e-5)
    np.testing.assert_allclose(loaded.ivector.quadratic, stats.quadratic, rtol=1e-5)
    assert loaded.cmvn.frozen is None
    assert (loaded.ivector.frames, loaded.ivector.max_count) == (7.5, 10.0)
    before = (tmp_path / "x").read_bytes()
    write_adaptation_state(loaded, tmp_path / "x", binary)
    assert (tmp_path / "x").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0B<IvectorExtractor> <w> DM \4\0\0\0\0\4\0\0\0\0", "the file was cut short"),
        (b"<IvectorExtractor> <w> [ ]\n<w_vec> [ ]\n<M> 0 ", "the number of Gaussians, found 0"),
        (
            b"<IvectorExtractor> <w> [ ]\n<w_vec> [ 1 ]\n<M> 1 [ 1 2 ]\n<SigmaInv> [ 1 2 ]\n",
            "the lower triangle of a matrix, found 2 numbers",
        ),
        (
            b"<IvectorExtractor> <w> [ ]\n<w_vec> [ 1 ]\n<M> 1 [ 1 2 ]\n<SigmaInv> [ 1 2 3 ]\n",
            "an inverse variance of 1 rows, found 2",
        ),
        (b"\0B<DiagGMM> ", "<IvectorExtractor>"),
    ],
)
def test_damaged_extractors(tmp_path, content, message):
    (tmp_path / "x.ie").write_bytes(content)
    with pytest.raises(NnetError, match=f"x.ie: byte .*{message}"):
        read_ivector_extractor(tmp_path / "x.ie")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<DiagGMM> <WEIGHTS> [ 1 ]\n<MEANS_INVVARS> [ 1 2 ]\n<INV_VARS> [ 1 ]\n",
            "inverse variances of 1 Gaussians",
        ),
        (
            b"<DiagGMM> <WEIGHTS> [ 1 ]\n<MEANS_INVVARS> [ 1 2 ]\n<INV_VARS> [ 1 0 ]\n",
            "inverse variances above 0",
        ),
    ],
)
def test_damaged_ubms(tmp_path, content, message):
    (tmp_path / "x.dubm").write_bytes(content)
    with pytest.raises(NnetError, match=f"x.dubm: byte .*{message}"):
        read_diagonal_gmm(tmp_path / "x.dubm")


def test_a_symmetric_matrix_that_asks_for_too_much_memory():
    raw = b"\0BDP \4\xff\xff\0\0"
    with pytest.raises(NnetError, match="expected the rows of a symmetric matrix, found 65535"):
        read_packed(open_bytes(raw, "x"))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=6))
def test_damaged_bytes_of_an_extractor_are_an_error_or_an_extractor(place, damage):
    content = bytearray((EXTRACTOR / "final.dubm").read_bytes())
    content[place : place + len(damage)] = damage
    result: object
    try:
        result = parse_diagonal_gmm(open_bytes(bytes(content), "x.dubm")).dim
    except NnetError as error:
        result = str(error)
    assert result == 40 or str(result).startswith("x.dubm: byte ")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_state_that_was_cut_short(share, tmp_path):
    cmvn = OnlineCmvnState(np.ones((2, 4)), np.ones((2, 4)))
    stats = IvectorStatistics(np.ones(5), np.ones(15), 7.5, 100.0, 10.0)
    write_adaptation_state(AdaptationState(cmvn, stats), tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: int(share * len(content))])
    with pytest.raises(NnetError, match="x: byte "):
        read_adaptation_state(tmp_path / "x")
