"""From the components of nnet2 to nodes of nnet3, one function each."""

from __future__ import annotations

import numpy as np

from nnet.components import nonlinearity as nnet3
from nnet.components.affine import Affine, NaturalGradientAffine
from nnet.components.blocks import BlockAffine
from nnet.components.convolution import Maxpooling
from nnet.components.dropout import GeneralDropout
from nnet.components.field import single
from nnet.components.fixed import FixedAffine
from nnet.components.normalize import Normalize
from nnet.components.power import Power
from nnet.components.reshape import ElementwiseProduct, NoOp, Permute, Pnorm, SumGroup
from nnet.converters.assembly import Assembly, append, negative, offset, total, with_rate
from nnet.converters.conversions import Conversions
from nnet.converters.images import convolution, max_pool
from nnet.converters.nnet2 import affine, columns, fixed, noise, nonlinear, splice
from nnet.converters.nnet2.base import Updatable
from nnet.converters.nnet2.convolution import Convolutional1d
from nnet.text import syntax
from nnet.text.syntax import Descriptor, NodeName

NNET2 = Conversions()

SAMPLES_OF_MAX_CHANGE = 10
"""nnet3's usual max-change per minibatch (0.75) over nnet2's usual one per sample (0.075)."""


def _rates(c: Updatable) -> tuple[float, float]:
    """nnet3's factor, and the rate that it multiplies."""
    return 1.0, c.learning_rate


@NNET2.of("AffineComponent", short="affine")
def _affine(c: affine.Affine, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(with_rate(Affine(linear=c.linear, bias=c.bias), *_rates(c)), source)


@NNET2.of("AffineComponentPreconditioned", short="affine")
def _preconditioned(c: affine.AffinePreconditioned, source: Descriptor, to: Assembly) -> Descriptor:
    component = NaturalGradientAffine(
        linear=c.linear, bias=c.bias, alpha=c.alpha, max_change=max(0.0, c.max_change)
    )
    to.note("trained with online natural gradient, of nnet3's usual ranks")
    return to.add(with_rate(component, *_rates(c)), source)


@NNET2.of("AffineComponentPreconditionedOnline", short="affine")
def _online(c: affine.AffinePreconditionedOnline, source: Descriptor, to: Assembly) -> Descriptor:
    max_change = single(SAMPLES_OF_MAX_CHANGE * c.max_change_per_sample)
    to.note(
        f"max-change-per-sample={c.max_change_per_sample:g} became max-change={max_change:g} per "
        "minibatch"
    )
    component = NaturalGradientAffine(
        linear=c.linear,
        bias=c.bias,
        rank_in=c.rank_in,
        rank_out=c.rank_out,
        update_period=c.update_period,
        num_samples_history=c.num_samples_history,
        alpha=c.alpha,
        max_change=max_change,
    )
    return to.add(with_rate(component, *_rates(c)), source)


@NNET2.of("BlockAffineComponent", "BlockAffineComponentPreconditioned", short="blockaffine")
def _block_affine(c: affine.BlockAffine, source: Descriptor, to: Assembly) -> Descriptor:
    if isinstance(c, affine.BlockAffinePreconditioned):
        to.note(f"trained without natural gradient (alpha={c.alpha:g}), as in nnet3")
    component = BlockAffine(linear=c.linear, bias=c.bias, num_blocks=c.num_blocks)
    return to.add(with_rate(component, *_rates(c)), source)


@NNET2.of("Convolutional1dComponent", short="convolution")
def _convolution(c: Convolutional1d, source: Descriptor, to: Assembly) -> Descriptor:
    factor, rate = _rates(c)
    used = c.patch_dim + c.patch_step * (c.num_patches - 1)
    if used < c.patch_stride:  # nnet3 wants the patches to cover all columns
        frames, all_columns = np.arange(c.num_splice), np.arange(used)
        if c.appended_conv:
            kept = c.num_splice * all_columns[:, None] + frames
        else:
            kept = c.patch_stride * frames[:, None] + all_columns
        source = to.select(source, kept.ravel().tolist(), "used")
    return convolution(
        to,
        source,
        c.filters,
        c.bias,
        patch_dim=c.patch_dim,
        patch_step=c.patch_step,
        patch_stride=used,
        factor=factor,
        rate=rate,
        interlaced=c.appended_conv,
    )


@NNET2.of("SpliceComponent", short="splice")
def _splice(c: splice.Splice, source: Descriptor, to: Assembly) -> Descriptor:
    dim = c.input_dim - c.const_component_dim
    if not c.const_component_dim:
        return to.splice(source, c.context)
    if to.ivector_input and source == NodeName("input"):
        ivector = to.divide_input("ivector", c.const_component_dim)
        return append(to.splice(source, c.context), syntax.ReplaceIndex(ivector, "t", 0))
    spliced, constant = to.split(source, [dim, c.const_component_dim])
    return append(to.splice(spliced, c.context), offset(constant, c.context[0]))


@NNET2.of("SpliceMaxComponent", short="splicemax")
def _splice_max(c: splice.SpliceMax, source: Descriptor, to: Assembly) -> Descriptor:
    return max_pool(to, to.splice(source, c.context), len(c.context), 1, c.dim)


_NONLINEARITIES = {
    "SigmoidComponent": nnet3.Sigmoid,
    "TanhComponent": nnet3.Tanh,
    "RectifiedLinearComponent": nnet3.RectifiedLinear,
    "SoftmaxComponent": nnet3.Softmax,
    "LogSoftmaxComponent": nnet3.LogSoftmax,
}


def _nonlinearity(c: nonlinear.Nonlinearity, source: Descriptor, to: Assembly) -> Descriptor:
    component = _NONLINEARITIES[c.type_name](dim=c.dim)
    if isinstance(c, nonlinear.LogSoftmax):
        to.note("nnet2 raises logarithms below log(1e-20) = -46.1 to that; nnet3 does not")
    if c.count > 0 and c.value_sum.size == c.dim:
        component.value_avg = (c.value_sum / c.count).astype(np.float32)
        component.nonlinearity_count = c.count
        if c.deriv_sum.size == c.dim:
            component.deriv_avg = (c.deriv_sum / c.count).astype(np.float32)
    return to.add(component, source)


for _name in _NONLINEARITIES:
    NNET2.of(_name, short=_name.removesuffix("Component").lower())(_nonlinearity)


@NNET2.of("SoftHingeComponent", short="softhinge")
def _soft_hinge(c: nonlinear.SoftHinge, source: Descriptor, to: Assembly) -> Descriptor:
    """log(1 + exp(x)) is minus the first log-softmax of (0, x), for each column on its own."""
    spread = to.configured("spread", source, "DistributeComponent", input_dim=c.dim, output_dim=1)
    pairs = append(syntax.Const(0.0, 1), spread)
    both = to.add(nnet3.LogSoftmax(dim=2), pairs, "logsoftmax")
    first = to.columns(both, 0, 1)
    return append(*(syntax.ReplaceIndex(negative(first), "x", column) for column in range(c.dim)))


@NNET2.of("NormalizeComponent", short="normalize")
def _normalize(c: nonlinear.Normalize, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(Normalize(dim=c.dim), source)


@NNET2.of("PowerComponent", short="power")
def _power(c: nonlinear.Power, source: Descriptor, to: Assembly) -> Descriptor:
    return power(source, c.power, to)


def power(source: Descriptor, exponent: float, to: Assembly) -> Descriptor:
    """|x| ** exponent: products where the exponent is 1, 2, 3 or 4, else a component of ours."""
    dim = to.dim(source)
    match exponent:
        case 1.0:
            return to.settled(absolute(source, to))
        case 2.0 | 3.0 | 4.0:
            factors = [source] * int(exponent)
            if exponent == 3.0:
                factors[0] = absolute(source, to)
            count = len(factors)
            component = ElementwiseProduct(input_dim=count * dim, output_dim=dim)
            return to.add(component, append(*factors))
    return to.add(Power(dim=dim, power=exponent), source)


def absolute(source: Descriptor, to: Assembly) -> Descriptor:
    """|x|."""
    return total(to.relu(source, "above"), to.relu(negative(source), "below"))


@NNET2.of("ScaleComponent", short="scale")
def _scale(c: nonlinear.Scale, source: Descriptor, to: Assembly) -> Descriptor:
    with to.fixed():
        return to.scale(source, np.full(c.dim, c.factor, np.float32))


@NNET2.of("MaxoutComponent", short="maxout")
def _maxout(c: columns.Maxout, source: Descriptor, to: Assembly) -> Descriptor:
    component = Maxpooling(
        input_x_dim=c.output_dim,
        input_y_dim=c.group,
        input_z_dim=1,
        pool_x_size=1,
        pool_y_size=c.group,
        pool_z_size=1,
        pool_x_step=1,
        pool_y_step=c.group,
        pool_z_step=1,
    )
    return to.add(component, source)


@NNET2.of("PnormComponent", short="pnorm")
def _pnorm(c: columns.Pnorm, source: Descriptor, to: Assembly) -> Descriptor:
    if c.p == 2.0:
        return to.add(Pnorm(input_dim=c.input_dim, output_dim=c.output_dim), source)
    if np.isinf(c.p):
        return _maxout(c, absolute(source, to), to)
    sums = SumGroup(sizes=(c.group,) * c.output_dim)
    if c.p == 1.0:
        return to.add(sums, absolute(source, to))
    powers = to.add(sums, power(source, c.p, to), "sums")
    return powers if c.p == 0.0 else to.add(Power(dim=c.output_dim, power=single(1 / c.p)), powers)


@NNET2.of("MaxpoolingComponent", short="maxpool")
def _maxpooling(c: columns.Maxpooling, source: Descriptor, to: Assembly) -> Descriptor:
    return max_pool(to, source, c.pool_size, c.pool_size, c.pool_stride)


@NNET2.of("SumGroupComponent", short="sumgroup")
def _sum_group(c: columns.SumGroup, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(SumGroup(sizes=c.sizes), source)


@NNET2.of("PermuteComponent", short="permute")
def _permute(c: columns.Permute, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(Permute(column_map=c.column_map), source)


@NNET2.of("DctComponent", short="dct")
def _dct(c: columns.Dct, source: Descriptor, to: Assembly) -> Descriptor:
    return to.transform(source, c.forward(np.eye(c.dim)).T)


@NNET2.of("FixedLinearComponent", short="linear")
def _fixed_linear(c: fixed.FixedLinear, source: Descriptor, to: Assembly) -> Descriptor:
    return to.transform(source, c.linear)


@NNET2.of("FixedAffineComponent", short="fixed")
def _fixed_affine(c: fixed.FixedAffine, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(FixedAffine(linear=c.linear, bias=c.bias), source)


@NNET2.of("FixedScaleComponent", short="fixedscale")
def _fixed_scale(c: fixed.FixedScale, source: Descriptor, to: Assembly) -> Descriptor:
    with to.fixed():
        return to.scale(source, c.scales)


@NNET2.of("FixedBiasComponent", short="fixedbias")
def _fixed_bias(c: fixed.FixedBias, source: Descriptor, to: Assembly) -> Descriptor:
    with to.fixed():
        return to.offset(source, c.bias)


@NNET2.of("DropoutComponent", short="dropout")
def _dropout(c: noise.Dropout, source: Descriptor, to: Assembly) -> Descriptor:
    if c.dropout_proportion > 0:
        to.note("nnet2 drops at random in recognition, too; here only in training")
    if c.dropout_scale > 0:
        to.note(f"dropped elements become 0, not {c.dropout_scale:g} times themselves")
    component = GeneralDropout(dim=c.dim, dropout_proportion=c.dropout_proportion, time_period=1)
    return to.add(component, source)


@NNET2.of("AdditiveNoiseComponent", short="noise")
def _additive_noise(c: noise.AdditiveNoise, source: Descriptor, to: Assembly) -> Descriptor:
    if c.stddev == 0:
        return to.add(NoOp(dim=c.dim), source)
    to.note(f"instead of noise, its mean ({c.mean:g}) is added")
    with to.fixed():
        return to.offset(source, np.full(c.dim, c.mean, np.float32))
