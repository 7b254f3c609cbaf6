"""Transforms that are not trained: fixed-affine-layer, idct-layer."""

from __future__ import annotations

import math

from nnet.text.syntax import Line, Offset
from nnet.text.values import integer, real, string, true_or_false
from nnet.xconfig import common
from nnet.xconfig.layer import Configs, LayerWithInput, MayPrecedeTransform
from nnet.xconfig.lines import config_line
from nnet.xconfig.option import REQUIRED, Check, Option
from nnet.xconfig.registry import register
from nnet.xconfig.scope import Output

Matrix = tuple[tuple[float, ...], ...]

MAX_ELEMENTS = 10_000_000


class _Fixed(LayerWithInput):
    """An affine transform that is read from a file."""

    dim = common.output_dim()
    affine_transform_file = Option(
        string, REQUIRED, "the file of the matrix, its last column the bias"
    )

    def check(self) -> None:
        if not self.affine_transform_file:
            raise self.wrong("affine-transform-file", f"{self} has an empty affine-transform-file")

    def outputs(self) -> dict[str, Output]:
        return {"": self.output("", self.dim)}

    def read_from_file(self) -> list[Line]:
        chain = self.chain()
        chain.add(self.name, "FixedAffineComponent", {"matrix": self.affine_transform_file})
        return chain.lines


@register("fixed-affine-layer")
class FixedAffineLayer(_Fixed):
    """A transform such as LDA that is estimated from data and then kept.

    Its file need not exist yet: init.config gives the input of the transform, from which it is
    estimated, and ref.config has a random transform in its place.
    """

    example = "name=lda input=Append(-2,-1,0,1,2) affine-transform-file=exp/lda.mat"
    delay = Option(integer, 0, "frames by which the output of init.config is later")
    write_init_config = Option(
        true_or_false, True, "whether init.config gives the input of this transform"
    )

    def configs(self) -> Configs:
        ref = self.chain()
        dims = {"input-dim": self.input.dim, "output-dim": self.dim}
        ref.add(self.name, "FixedAffineComponent", dims)
        return Configs(
            init=tuple(self._init_config()) if self.write_init_config else (),
            ref=tuple(ref.lines),
            final=tuple(self.read_from_file()),
        )

    def _init_config(self) -> list[Line]:
        chain = self.chain()
        source = chain.end
        if self.delay:
            chain.add(f"{self.name}.delayed", "NoOpComponent", {"dim": self.input.dim})
            source = Offset(chain.end, self.delay, span=self.line.span)
        node = {"name": "output", "input": source}
        return [*chain.lines, config_line("output-node", node, span=self.line.span)]


@register("idct-layer")
class IdctLayer(_Fixed, MayPrecedeTransform):
    """The inverse of the cosine transform of MFCC features: mel filterbank features come out.

    The matrix is written to `affine-transform-file` when the config files are written.
    """

    example = "name=idct dim=40 cepstral-lifter=22 affine-transform-file=exp/idct.mat"
    cepstral_lifter = Option(
        real,
        22.0,
        "the liftering coefficient of the MFCC features",
        check=Check("0, or 1 and more", lambda value: value == 0 or value >= 1),
    )

    def check(self) -> None:
        super().check()
        if self.input.dim * self.dim > MAX_ELEMENTS:
            raise self.wrong(
                "dim",
                f"a matrix of {self.dim} by {self.input.dim} is too large for a cosine transform",
            )
        for k in range(self.input.dim):
            if abs(liftering(k, self.cepstral_lifter)) < 1e-6:
                raise self.wrong(
                    "cepstral-lifter",
                    f"cepstral-lifter (={self.cepstral_lifter}) sets coefficient {k} to zero, "
                    "which cannot be undone",
                )

    def config(self) -> list[Line]:
        return self.read_from_file()

    def matrix(self) -> Matrix:
        """Rows of the inverse cosine transform with the lifter undone, and a zero bias column.

        Shape (dim, input dim + 1).
        """
        return tuple((*row, 0) for row in idct(self.input.dim, self.dim, self.cepstral_lifter))


def idct(coefficients: int, dim: int, lifter: float) -> Matrix:
    """Inverse DCT (orthonormal DCT-III) of liftered cepstra.

    Args:
        coefficients: number of cepstral coefficients, the columns.
        dim: number of filterbank channels, the rows.
        lifter: the liftering coefficient, 0 if there was none.
    """

    def entry(n: int, k: int) -> float:
        if k == 0:
            value = math.sqrt(1.0 / dim)
        else:
            value = math.sqrt(2.0 / dim) * math.cos(math.pi / dim * (n + 0.5) * k)
        return value / liftering(k, lifter)

    return tuple(tuple(entry(n, k) for k in range(coefficients)) for n in range(dim))


def liftering(k: int, lifter: float) -> float:
    """The factor that liftering with coefficient L puts on cepstrum k: 1 + L/2 sin(pi k / L)."""
    return 1.0 + 0.5 * lifter * math.sin(math.pi * k / lifter) if lifter else 1.0
