"""i-vector extractors as files (`final.ie`, Kaldi's IvectorExtractor)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.modelfile.loading import open_file
from nnet.modelfile.packed_matrix import packed_dim, read_packed, triangle, write_packed
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer, save_bytes

Doubles = NDArray[np.float64]
MOST_GAUSSIANS = 1 << 20


@dataclass(frozen=True, eq=False)
class IvectorExtractor:
    """Gaussians whose means are linear in the i-vector: mean_g = projections[g] @ ivector.

    Args:
        weight_projections: log-weights from the i-vector, (gaussians, ivector_dim), or no rows if
            weights do not depend on it.
        weights: of the Gaussians, (gaussians,), or none if they depend on the i-vector.
        projections: Kaldi's M, (gaussians, feature_dim, ivector_dim).
        inverse_variances: lower triangles of Kaldi's SigmaInv, (gaussians, D (D + 1) / 2).
        prior_offset: mean of the first number of an i-vector; that of the others is 0.
    """

    weight_projections: Doubles
    weights: Doubles
    projections: Doubles
    inverse_variances: Doubles
    prior_offset: float

    @property
    def gaussians(self) -> int:
        """How many Gaussians there are."""
        return self.projections.shape[0]

    @property
    def feature_dim(self) -> int:
        """Numbers in a frame."""
        return self.projections.shape[1]

    @property
    def ivector_dim(self) -> int:
        """Numbers in an i-vector."""
        return self.projections.shape[2]


def read_ivector_extractor(path: str | os.PathLike[str]) -> IvectorExtractor:
    """An extractor from a file, binary or text.

    Raises:
        NnetError: it cannot be read or is damaged; with the byte offset.
    """
    reader = open_file(path)
    reader.expect("<IvectorExtractor>")
    reader.expect("<w>")
    weight_projections = reader.double_matrix().astype(np.float64)
    reader.expect("<w_vec>")
    weights = reader.double_vector().astype(np.float64)
    reader.expect("<M>")
    start = reader.position
    count = reader.integer()
    if not 1 <= count <= MOST_GAUSSIANS:
        reader.fail("the number of Gaussians", str(count), at=start)
    projections = _read_projections(reader, count)
    reader.expect("<SigmaInv>")
    variances = _read_variances(reader, count, projections.shape[1])
    reader.expect("<IvectorOffset>")
    offset = reader.double()
    reader.expect("</IvectorExtractor>")
    if len(weights) not in (0, count) or len(weight_projections) not in (0, count):
        reader.fail(
            f"weights of {count} Gaussians", f"{len(weights)} and {len(weight_projections)}"
        )
    return IvectorExtractor(weight_projections, weights, projections, variances, offset)


def _read_projections(reader: Reader, count: int) -> Doubles:
    projections: list[Doubles] = []
    for _ in range(count):
        start = reader.position
        projections.append(reader.double_matrix().astype(np.float64))
        if projections[-1].shape != projections[0].shape or projections[-1].size == 0:
            rows, columns = projections[0].shape
            found = " by ".join(map(str, projections[-1].shape))
            reader.fail(f"a projection of {rows} by {columns}, above 0", found, at=start)
    return np.stack(projections)


def _read_variances(reader: Reader, count: int, dim: int) -> Doubles:
    variances = []
    for _ in range(count):
        start = reader.position
        variances.append(read_packed(reader))
        if len(variances[-1]) != triangle(dim):
            found = str(packed_dim(len(variances[-1])))
            reader.fail(f"an inverse variance of {dim} rows", found, at=start)
    return np.stack(variances)


def write_ivector_extractor(
    extractor: IvectorExtractor, path: str | os.PathLike[str], binary: bool = True
) -> None:
    """Writes an extractor; one that was read gets the same bytes."""
    writer: Writer = BinaryWriter() if binary else TextWriter()
    writer.token("<IvectorExtractor>")
    writer.token("<w>")
    writer.double_matrix(extractor.weight_projections)
    writer.token("<w_vec>")
    writer.double_vector(extractor.weights)
    writer.token("<M>")
    writer.integer(extractor.gaussians)
    for projection in extractor.projections:
        writer.double_matrix(projection)
    writer.token("<SigmaInv>")
    for variance in extractor.inverse_variances:
        write_packed(writer, variance)
    writer.token("<IvectorOffset>")
    writer.double(extractor.prior_offset)
    writer.token("</IvectorExtractor>")
    save_bytes(bytes(writer), path)
