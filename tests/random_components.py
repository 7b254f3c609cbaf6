"""Components of every type for random networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Made:
    """A component: its settings in a config line, and its dimensions."""

    settings: str
    input_dim: int
    output_dim: int
    reads_itself: bool = False


Kind = Callable[[int, np.random.Generator], Made]
"""Makes a component that reads so many columns, or as many as it must have."""


def _same(settings: str = "") -> Kind:
    return lambda dim, rng: Made(f"dim={dim} {settings}", dim, dim)


def _wide(settings: str = "") -> Kind:
    def make(dim: int, rng: np.random.Generator) -> Made:
        out = int(rng.integers(1, 7))
        return Made(f"input-dim={dim} output-dim={out} {settings}", dim, out)

    return make


def _blocks(settings: str = "") -> Kind:
    """Two blocks of columns that share parameters or statistics."""
    return lambda dim, rng: Made(f"dim={2 * dim} block-dim={dim} {settings}", 2 * dim, 2 * dim)


def _permute(dim: int, rng: np.random.Generator) -> Made:
    order = ",".join(map(str, rng.permutation(dim)))
    return Made(f"column-map={order}", dim, dim)


def _pnorm(dim: int, rng: np.random.Generator) -> Made:
    return Made(f"input-dim={2 * dim} output-dim={dim}", 2 * dim, dim)


def _sum_group(dim: int, rng: np.random.Generator) -> Made:
    sizes = rng.integers(1, 4, size=2)
    return Made(f"sizes={sizes[0]},{sizes[1]}", int(sizes.sum()), 2)


def _normalize(dim: int, rng: np.random.Generator) -> Made:
    return Made(f"input-dim={2 * dim} block-dim={dim} add-log-stddev=true", 2 * dim, 2 * dim + 2)


def _fixed(settings: str, input_dim: int, output_dim: int) -> Kind:
    return lambda dim, rng: Made(settings, input_dim, output_dim)


def _product(dim: int, rng: np.random.Generator) -> Made:
    return Made(f"input-dim={2 * dim} output-dim={dim}", 2 * dim, dim)


def _halves(settings: str) -> Kind:
    """An affine map in two blocks."""
    return lambda dim, rng: Made(f"input-dim={2 * dim} output-dim=4 {settings}", 2 * dim, 4)


def _extraction(dim: int, rng: np.random.Generator) -> Made:
    return Made(f"input-dim={dim}", dim, 2 * dim + 1)


def _composite(dim: int, rng: np.random.Generator) -> Made:
    affine = f"type=AffineComponent input-dim={dim} output-dim=4"
    inner = f"component1='{affine}' component2='type=TanhComponent dim=4'"
    return Made(f"num-components=2 {inner}", dim, 4)


def _constant_function(dim: int, rng: np.random.Generator) -> Made:
    return Made(f"input-dim={dim} output-dim=3 output-stddev=1", dim, 3)


def _itself(settings: str = "") -> Kind:
    """A component without an input; in its place its node reads itself."""
    return lambda dim, rng: Made(f"output-dim=3 {settings}", 3, 3, reads_itself=True)


_IMAGE = "input-x-dim=4 input-y-dim=3 input-z-dim=2"
_FILTER = "filt-x-dim=2 filt-y-dim=2 filt-x-step=1 filt-y-step=1 num-filters=3"
_POOL = "pool-x-size=2 pool-y-size=1 pool-z-size=2 pool-x-step=2 pool-y-step=1 pool-z-step=2"
_HEADS = "num-heads=2 key-dim=2 value-dim=2"
_CONVOLUTION = "num-filters-in=2 num-filters-out=3 height-in=4"

KINDS: dict[str, tuple[Kind, ...]] = {
    "AffineComponent": (_wide(),),
    "BackpropTruncationComponent": (
        _same("scale=0.7 clipping-threshold=1e6 zeroing-threshold=1e6"),
    ),
    "BatchNormComponent": (_same("target-rms=0.7"), _blocks()),
    "BlockAffineComponent": (_halves("num-blocks=2"),),
    "ClipGradientComponent": (_same("clipping-threshold=1e6"),),
    "CompositeComponent": (_composite,),
    "ConstantComponent": (_itself("output-stddev=1"),),
    "ConstantFunctionComponent": (_constant_function,),
    "ConvolutionComponent": (
        _fixed(f"{_IMAGE} {_FILTER} input-vectorization-order=zyx", 24, 18),
        _fixed(f"{_IMAGE} {_FILTER} input-vectorization-order=yzx", 24, 18),
    ),
    "DistributeComponent": (_product,),
    "DropoutComponent": (_same("dropout-proportion=0.25"),),
    "DropoutMaskComponent": (_itself(), _itself("dropout-proportion=0.2")),
    "ElementwiseProductComponent": (_product,),
    "FixedAffineComponent": (_wide(),),
    "FixedBiasComponent": (_same(),),
    "FixedScaleComponent": (_same(),),
    "GeneralDropoutComponent": (_same(),),
    "GruNonlinearityComponent": (
        _fixed("cell-dim=3", 12, 6),
        _fixed("cell-dim=3 recurrent-dim=2", 13, 6),
    ),
    "LinearComponent": (_wide(),),
    "LogComponent": (_same("floor=0.1"),),
    "LogSoftmaxComponent": (_same(),),
    # without dropout masks, by which nnet3 derives nothing
    "LstmNonlinearityComponent": (_fixed("cell-dim=3", 15, 6),),
    "MaxpoolingComponent": (_fixed(f"{_IMAGE} {_POOL}", 24, 6),),
    "NaturalGradientAffineComponent": (_wide(),),
    "NaturalGradientPerElementScaleComponent": (_same("param-stddev=1"),),
    "NaturalGradientRepeatedAffineComponent": (_halves("num-repeats=2"),),
    "NoOpComponent": (_same(),),
    "NormalizeComponent": (_same("target-rms=0.5"), _normalize),
    "OutputGruNonlinearityComponent": (_fixed("cell-dim=3", 9, 6),),
    "PerElementOffsetComponent": (_same("param-stddev=1"), _blocks("param-stddev=1")),
    "PerElementScaleComponent": (_same("param-stddev=1"),),
    "PermuteComponent": (_permute,),
    "PnormComponent": (_pnorm,),
    "PowerComponent": (_same("power=1.5"),),
    "RectifiedLinearComponent": (_same(),),
    "RepeatedAffineComponent": (_halves("num-repeats=2"),),
    "RestrictedAttentionComponent": (
        _fixed(f"{_HEADS} num-left-inputs=2 num-right-inputs=1", 20, 12),
        _fixed(f"{_HEADS} num-left-inputs=1 num-right-inputs=2 output-context=false", 20, 4),
    ),
    "ScaleAndOffsetComponent": (_same(), _blocks()),
    "SigmoidComponent": (_same(),),
    "SoftmaxComponent": (_same(),),
    "SpecAugmentTimeMaskComponent": (_same(),),
    "StatisticsExtractionComponent": (_extraction,),
    "SumBlockComponent": (_product,),
    "SumGroupComponent": (_sum_group,),
    "SwishComponent": (_same(),),
    "TanhComponent": (_same(),),
    "TdnnComponent": (_wide("time-offsets=-2,0,1"), _wide("time-offsets=-3 use-bias=false")),
    "TimeHeightConvolutionComponent": (
        _fixed(f"{_CONVOLUTION} height-out=4 time-offsets=-1,0,1 height-offsets=-1,0,1", 8, 12),
        _fixed(
            f"{_CONVOLUTION} height-out=2 height-subsample-out=2 time-offsets=0,2 "
            "height-offsets=0,1 required-time-offsets=0",
            8,
            6,
        ),
    ),
}
