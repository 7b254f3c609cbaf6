"""An LDA-like transform of a network's input (nnet3-acc-lda-stats, nnet-get-feature-transform).

The transform makes training roughly the same for any linear transform of the features: it takes the
mean away, makes the within-class covariance the identity and the between-class covariance diagonal,
and then scales directions down in which classes hardly differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError, nearest
from nnet.options import Applies, option

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
ESTIMATED = Applies("without --no-lda", lambda values: values["lda"] is not False)
SMOOTHING = 1e-3


@dataclass(frozen=True)
class TransformOptions:
    """Options of nnet-get-feature-transform, with its names and defaults.

    Args:
        remove_offset: whether the transform makes the mean zero.
        dim: of the result, the directions in which classes differ most; -1: all.
        within_class_factor: the variance that is left to directions in which classes do not
            differ; 1: that of LDA.
        max_singular_value: to which singular values of the transform are limited; 0: not at all.
    """

    remove_offset: bool = True
    dim: int = -1
    within_class_factor: float = 0.001
    max_singular_value: float = 5.0

    @staticmethod
    def parse(text: str) -> TransformOptions:
        """From the words of `--lda-opts`, such as '--dim=40 --within-class-factor=0.0001'.

        Raises:
            NnetError: an option that there is not, or a value of another kind.
        """
        from nnet.text.values import BadValue, boolean, integer, real

        kinds = {"remove_offset": boolean, "dim": integer}
        names = {
            "--" + field.name.replace("_", "-"): field.name for field in fields(TransformOptions)
        }
        given: dict[str, Any] = {}
        for word in text.split():
            option, _, value = word.partition("=")
            if option not in names:
                meant = nearest(option, names)
                hint = f"; did you mean '{meant}'?" if meant else ""
                raise NnetError(
                    f"--lda-opts has '{word}'; expected: {', '.join(names)} with =VALUE{hint}"
                )
            try:
                given[names[option]] = kinds.get(names[option], real)(value)
            except BadValue as error:
                raise NnetError(f"--lda-opts has '{word}'; expected {error}") from None
        return TransformOptions(**given)


@dataclass(frozen=True)
class UnknownTransform:
    """A transform of a network that is to be estimated from its training data.

    Args:
        component: its name; a FixedAffineComponent whose numbers do not matter yet.
        options: of the transform. If they do not say its dim, it is the component's.
        rand_prune: a frame is counted with this weight or, more probably, not at all, if its own
            weight is smaller (Kaldi's --rand-prune); 0: all are.
        delay: frames by which the transform's input is later than the target that it belongs to
            (the delay of a fixed-affine-layer, where the output has an output-delay).
    """

    component: str
    options: TransformOptions
    rand_prune: float = 4.0
    delay: int = 0


@dataclass(frozen=True)
class EstimationOptions:
    """Whether and how `nnet train` estimates the transform of a network's fixed-affine-layer."""

    lda: bool | None = option(
        None,
        "Estimate the transform of NET's fixed-affine-layer from the training data "
        "[if its affine-transform-file is not there].",
    )
    lda_opts: str = option(
        "",
        "Such as '--dim=40 --within-class-factor=0.0001 --max-singular-value=5'.",
        applies=ESTIMATED,
    )
    rand_prune: float | None = option(
        None,
        "Weight with which frames are drawn for that transform; 0: all are [4].",
        applies=ESTIMATED,
    )

    @property
    def wanted(self) -> bool:
        return self.lda is not False

    def transform(self, component: str, delay: int) -> UnknownTransform:
        """The transform that is to be estimated."""
        options = TransformOptions.parse(self.lda_opts)
        rand_prune = 4.0 if self.rand_prune is None else self.rand_prune
        return UnknownTransform(component, options, rand_prune, delay)

    def check_unused(self, path: str) -> None:
        """Raises NnetError if an option is given, but nothing is to be estimated for a network."""
        given = {
            "--lda": bool(self.lda),
            "--lda-opts": bool(self.lda_opts),
            "--rand-prune": self.rand_prune is not None,
        }
        for name, is_given in given.items():
            if is_given:
                raise NnetError(
                    f"{name} has no effect here; it applies to an xconfig with a "
                    f"fixed-affine-layer whose transform is to be estimated, and '{path}' has none"
                )


class LdaStatistics:
    """Counts, sums and scatter of vectors by class (Kaldi's LdaEstimate), in float64.

    Args:
        classes: how many there are.
        dim: of the vectors.
    """

    def __init__(self, classes: int, dim: int) -> None:
        self.counts = np.zeros(classes)
        self.sums = np.zeros((classes, dim))
        self.scatter = np.zeros((dim, dim))

    def add(self, rows: Floats, classes: NDArray[np.int64], weights: Floats) -> None:
        """Takes vectors (rows, dim) of `classes` (rows,) with `weights` (rows,) into account."""
        vectors = rows.astype(np.float64)
        weighted = vectors * weights[:, None].astype(np.float64)
        np.add.at(self.counts, classes, weights)
        np.add.at(self.sums, classes, weighted)
        self.scatter += weighted.T @ vectors

    def covariances(self) -> tuple[Doubles, Doubles, Doubles]:
        """The total and the between-class covariance (dim, dim), and the mean (dim,).

        Raises:
            NnetError: no vector has been added.
        """
        count = self.counts.sum()
        if not count > 0:
            raise NnetError(
                "no frame was counted for the LDA-like transform; give more data or a smaller "
                "--rand-prune"
            )
        mean = self.sums.sum(0) / count
        offset = np.outer(mean, mean)
        used = self.counts != 0
        counts = self.counts[used]
        means = self.sums[used] / counts[:, None]
        between = (means.T * (counts / count)) @ means - offset
        return self.scatter / count - offset, between, mean


def pruned(weights: Floats, threshold: float, random: np.random.Generator) -> Floats:
    """Weights of which those below a threshold became the threshold or, more probably, zero.

    The expectation stays what it was (Kaldi's RandPrune), and fewer are left to be counted.
    """
    if threshold <= 0.0:
        return weights
    kept = random.random(weights.shape) <= np.abs(weights) / threshold
    small = np.where(kept, np.sign(weights) * np.float32(threshold), np.float32(0.0))
    result: Floats = np.where(np.abs(weights) >= threshold, weights, small).astype(np.float32)
    return result


def feature_transform(statistics: LdaStatistics, options: TransformOptions) -> Floats:
    """The transform, float32 (dim, input dim + 1); the last column is the offset.

    Raises:
        NnetError: more dimensions are asked for than there are, or the statistics are empty.
    """
    total, between, mean = statistics.covariances()
    dim = len(mean)
    wanted = options.dim if options.dim > 0 else dim
    if wanted > dim:
        raise NnetError(f"the LDA-like transform is asked for {wanted} of {dim} dimensions")
    whitening = np.linalg.inv(_cholesky(total - between))
    u, ratios, _ = np.linalg.svd(whitening @ between @ whitening.T)
    matrix = (u.T @ whitening)[:wanted]
    ratios = ratios[:wanted]
    matrix *= np.sqrt((options.within_class_factor + ratios) / (1.0 + ratios))[:, None]
    if options.max_singular_value > 0:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        if values.max(initial=0.0) > options.max_singular_value:
            matrix = (left * values.clip(max=options.max_singular_value)) @ right
    offset = -(matrix @ mean) if options.remove_offset else np.zeros(wanted)
    return np.column_stack([matrix, offset]).astype(np.float32)


def _cholesky(within: Doubles) -> Doubles:
    """The lower Cholesky factor, of a smoothed matrix if that is needed to make it positive."""
    try:
        return np.linalg.cholesky(within).astype(np.float64)
    except np.linalg.LinAlgError:
        smooth = SMOOTHING * np.trace(within) / len(within)
    try:
        return np.linalg.cholesky(within + smooth * np.eye(len(within))).astype(np.float64)
    except np.linalg.LinAlgError:
        raise NnetError(
            "the within-class covariance of the network's input is not positive: there is too "
            "little data for an LDA-like transform"
        ) from None
