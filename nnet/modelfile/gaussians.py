"""Gaussian mixture models as files: DiagGMM (`final.dubm`) and FullGMM (`final.ubm`)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.modelfile.loading import open_file
from nnet.modelfile.packed_matrix import pack, packed_dim, read_packed, unpack, write_packed
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer, save_bytes

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class DiagonalGmm:
    """A mixture of Gaussians with diagonal covariances, in Kaldi's parameters.

    Args:
        gconsts: log-likelihoods of a frame of zeros with each Gaussian, (gaussians,).
        weights: (gaussians,).
        means_invvars: means divided by variances, (gaussians, dim).
        inv_vars: 1 divided by variances, (gaussians, dim).
    """

    gconsts: Floats
    weights: Floats
    means_invvars: Floats
    inv_vars: Floats

    @classmethod
    def of(cls, weights: Doubles, means: Doubles, variances: Doubles) -> DiagonalGmm:
        """From weights (gaussians,), means and variances (gaussians, dim)."""
        inverse = 1.0 / variances
        parameters = (weights, means * inverse, inverse)
        stored = [values.astype(np.float32) for values in parameters]
        return cls(_diagonal_gconsts(*stored), *stored)

    @property
    def dim(self) -> int:
        """Numbers in a frame."""
        return self.inv_vars.shape[1]

    @property
    def means(self) -> Doubles:
        """(gaussians, dim)."""
        return self.means_invvars.astype(np.float64) / self.inv_vars

    @property
    def variances(self) -> Doubles:
        """(gaussians, dim)."""
        return 1.0 / self.inv_vars.astype(np.float64)

    def log_likelihoods(self, frames: Floats) -> Floats:
        """Weighted log-likelihoods of frames (frames, dim) with each Gaussian."""
        return (
            self.gconsts
            + frames @ self.means_invvars.T
            - np.float32(0.5) * (frames**2 @ self.inv_vars.T)
        )


def _diagonal_gconsts(weights: Floats, means_invvars: Floats, inv_vars: Floats) -> Floats:
    inverse, means = inv_vars.astype(np.float64), means_invvars.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = 0.5 * np.log(inverse) - 0.5 * means**2 / inverse
        values = np.log(weights) - 0.5 * LOG_2PI * inverse.shape[1] + terms.sum(axis=1)
    values = np.where(np.isposinf(values), -np.inf, values)  # a Gaussian without any width
    return values.astype(np.float32)


@dataclass(frozen=True, eq=False)
class FullGmm:
    """A mixture of Gaussians with full covariances, in Kaldi's parameters.

    Args:
        gconsts: log-likelihoods of a frame of zeros with each Gaussian, (gaussians,).
        weights: (gaussians,).
        means_invcovars: inverse covariances times means, (gaussians, dim).
        inv_covars: lower triangles of inverse covariances, (gaussians, dim (dim + 1) / 2).
    """

    gconsts: Floats
    weights: Floats
    means_invcovars: Floats
    inv_covars: Floats

    @classmethod
    def of(cls, weights: Doubles, means: Doubles, covariances: Doubles) -> FullGmm:
        """From weights (gaussians,), means (gaussians, dim), covariances (gaussians, dim, dim)."""
        inverse: Doubles = np.linalg.inv(covariances).astype(np.float64)
        scaled = np.einsum("gij,gj->gi", inverse, means)
        _, determinants = np.linalg.slogdet(inverse)
        quadratic = np.einsum("gi,gi->g", scaled, means)
        constant = -0.5 * LOG_2PI * means.shape[1]
        gconsts = np.log(weights) + constant + 0.5 * determinants - 0.5 * quadratic
        values = (gconsts, weights, scaled, pack(inverse))
        return cls(*(value.astype(np.float32) for value in values))

    @property
    def dim(self) -> int:
        """Numbers in a frame."""
        return self.means_invcovars.shape[1]

    @property
    def inverse_covariances(self) -> Doubles:
        """(gaussians, dim, dim)."""
        return unpack(self.inv_covars.astype(np.float64))

    @property
    def means(self) -> Doubles:
        """(gaussians, dim)."""
        scaled = self.means_invcovars.astype(np.float64)[:, :, None]
        means = np.linalg.solve(self.inverse_covariances, scaled)[:, :, 0]
        return np.asarray(means, np.float64)


def read_diagonal_gmm(path: str | os.PathLike[str]) -> DiagonalGmm:
    """A DiagGMM file, such as `final.dubm`.

    Raises:
        NnetError: it cannot be read or is damaged; with the byte offset.
    """
    return parse_diagonal_gmm(open_file(path))


def parse_diagonal_gmm(reader: Reader) -> DiagonalGmm:
    """The DiagGMM that begins here."""
    reader.expect("<DiagGMM>", "<DiagGMMBegin>")
    gconsts = None
    if reader.expect("<GCONSTS>", "<WEIGHTS>") == "<GCONSTS>":
        gconsts = reader.vector()
        reader.expect("<WEIGHTS>")
    weights = reader.vector()
    reader.expect("<MEANS_INVVARS>")
    means = reader.matrix()
    reader.expect("<INV_VARS>")
    start = reader.position
    variances = reader.matrix()
    if means.shape != variances.shape or len(weights) != len(means) or means.size == 0:
        reader.fail(
            f"inverse variances of {len(weights)} Gaussians, as many numbers as means "
            f"({means.shape[0]} by {means.shape[1]})",
            f"{variances.shape[0]} by {variances.shape[1]}",
            at=start,
        )
    if not (variances > 0).all():
        reader.fail("inverse variances above 0", str(variances.min()), at=start)
    reader.expect("</DiagGMM>", "<DiagGMMEnd>")
    if gconsts is None or len(gconsts) != len(weights):
        gconsts = _diagonal_gconsts(weights, means, variances)
    return DiagonalGmm(gconsts, weights, means, variances)


def write_diagonal_gmm(gmm: DiagonalGmm, path: str | os.PathLike[str], binary: bool = True) -> None:
    """Writes a DiagGMM file; one that was read gets the same bytes."""
    writer = _begin("<DiagGMM>", binary)
    writer.token("<GCONSTS>")
    writer.vector(gmm.gconsts)
    writer.token("<WEIGHTS>")
    writer.vector(gmm.weights)
    writer.token("<MEANS_INVVARS>")
    writer.matrix(gmm.means_invvars)
    writer.token("<INV_VARS>")
    writer.matrix(gmm.inv_vars)
    _end(writer, "</DiagGMM>", path)


def read_full_gmm(path: str | os.PathLike[str]) -> FullGmm:
    """A FullGMM file, such as `final.ubm`.

    Raises:
        NnetError: it cannot be read or is damaged; with the byte offset.
    """
    reader = open_file(path)
    reader.expect("<FullGMM>", "<FullGMMBegin>")
    reader.expect("<GCONSTS>")
    gconsts = reader.vector()
    reader.expect("<WEIGHTS>")
    weights = reader.vector()
    reader.expect("<MEANS_INVCOVARS>")
    start = reader.position
    means = reader.matrix()
    if len(gconsts) != len(weights) or len(means) != len(weights) or means.size == 0:
        reader.fail(f"means of {len(weights)} Gaussians", f"{len(means)}", at=start)
    reader.expect("<INV_COVARS>")
    covariances = []
    for _ in range(len(weights)):
        start = reader.position
        covariances.append(read_packed(reader))
        if packed_dim(len(covariances[-1])) != means.shape[1]:
            found = str(packed_dim(len(covariances[-1])))
            reader.fail(f"a covariance of {means.shape[1]} rows", found, at=start)
    reader.expect("</FullGMM>", "<FullGMMEnd>")
    return FullGmm(gconsts, weights, means, np.array(covariances, np.float32))


def write_full_gmm(gmm: FullGmm, path: str | os.PathLike[str], binary: bool = True) -> None:
    """Writes a FullGMM file; one that was read gets the same bytes."""
    writer = _begin("<FullGMM>", binary)
    writer.token("<GCONSTS>")
    writer.vector(gmm.gconsts)
    writer.token("<WEIGHTS>")
    writer.vector(gmm.weights)
    writer.token("<MEANS_INVCOVARS>")
    writer.matrix(gmm.means_invcovars)
    writer.token("<INV_COVARS>")
    for covariance in gmm.inv_covars:
        write_packed(writer, covariance.astype(np.float64), double=False)
    _end(writer, "</FullGMM>", path)


def _begin(token: str, binary: bool) -> Writer:
    writer: Writer = BinaryWriter() if binary else TextWriter()
    writer.token(token)
    writer.text_newline()
    return writer


def _end(writer: Writer, token: str, path: str | os.PathLike[str]) -> None:
    writer.token(token)
    writer.text_newline()
    save_bytes(bytes(writer), path)
