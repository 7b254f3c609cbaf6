"""From the components of nnet1 to nodes of nnet3, one function each (recurrent ones elsewhere)."""

from __future__ import annotations

import numpy as np

from nnet.components.dropout import GeneralDropout
from nnet.components.field import single
from nnet.components.nonlinearity import Softmax
from nnet.components.normalize import Normalize
from nnet.components.reshape import NoOp
from nnet.converters.assembly import Assembly, Rates, append, before, negative, total
from nnet.converters.conversions import Conversions
from nnet.converters.images import convolution, max_pool
from nnet.converters.nnet1 import activations, affine, columns, nested, pooling
from nnet.errors import NnetError
from nnet.text.syntax import Descriptor

NNET1 = Conversions()

LONGEST_SENTENCE = 10_000
"""Frames over which sentences are averaged, in each direction."""

NOT_CARRIED = "max-norm regularization ({:g}) is not in nnet3"


def _note_max_norm(max_norm: float, to: Assembly) -> None:
    if max_norm > 0:
        to.note(NOT_CARRIED.format(max_norm))


@NNET1.of("AffineTransform", short="affine")
def _affine(c: affine.AffineTransform, source: Descriptor, to: Assembly) -> Descriptor:
    _note_max_norm(c.max_norm, to)
    return to.affine(source, c.linear, c.bias, Rates(c.learn_rate, c.bias_learn_rate))


@NNET1.of("LinearTransform", short="linear")
def _linear(c: affine.LinearTransform, source: Descriptor, to: Assembly) -> Descriptor:
    return to.linear(source, c.linear, c.learn_rate)


@NNET1.of("Rbm", short="rbm")
def _rbm(c: affine.Rbm, source: Descriptor, to: Assembly) -> Descriptor:
    to.note("the bias of the visible units is left behind: it takes no part in the output")
    activations = to.affine(source, c.linear, c.bias, Rates())
    return to.sigmoid(activations) if c.hidden == "bern" else activations


@NNET1.of("KlHmm", short="kl-hmm")
def _kl_hmm(c: affine.KlHmm, source: Descriptor, to: Assembly) -> Descriptor:
    raise NnetError(
        f"component {to.part.source}: KlHmm is no layer of a network but a model of HMM states "
        "over its posteriors, with counts instead of weights; remove it and convert the network "
        "before it"
    )


@NNET1.of("ConvolutionalComponent", short="convolution")
def _convolution(c: pooling.Convolution, source: Descriptor, to: Assembly) -> Descriptor:
    _note_max_norm(c.max_norm, to)
    if c.bias_learn_rate != c.learn_rate:
        to.note(f"the bias learns with the filters' factor, not with {c.bias_learn_rate:g}")
    return convolution(
        to,
        source,
        c.filters,
        c.bias,
        patch_dim=c.patch_dim,
        patch_step=c.patch_step,
        patch_stride=c.patch_stride,
        factor=to.factor(c.learn_rate),
        rate=Rates().rate,
    )


@NNET1.of("MaxPoolingComponent", short="maxpool")
def _max_pooling(c: pooling.MaxPooling, source: Descriptor, to: Assembly) -> Descriptor:
    return max_pool(to, source, c.pool_size, c.pool_step, c.pool_stride)


@NNET1.of("AveragePoolingComponent", short="averagepool")
def _average_pooling(c: pooling.AveragePooling, source: Descriptor, to: Assembly) -> Descriptor:
    return to.transform(source, c.forward(np.eye(c.input_dim)).T)


@NNET1.of("FramePoolingComponent", short="framepool")
def _frame_pooling(c: pooling.FramePooling, source: Descriptor, to: Assembly) -> Descriptor:
    if c.learn_rate != 0:
        to.note("the weights of the frames are not trained any more")
    return to.transform(source, c.forward(np.eye(c.input_dim)).T)


@NNET1.of("Softmax", "HiddenSoftmax", short="softmax")
def _softmax(c: activations.Softmax, source: Descriptor, to: Assembly) -> Descriptor:
    return to.add(Softmax(dim=c.output_dim), source)


@NNET1.of("BlockSoftmax", short="blocksoftmax")
def _block_softmax(c: activations.BlockSoftmax, source: Descriptor, to: Assembly) -> Descriptor:
    blocks = to.split(source, c.block_dims)
    return append(
        *(
            to.add(Softmax(dim=dim), block, f"softmax{number}")
            for number, (dim, block) in enumerate(zip(c.block_dims, blocks, strict=True), 1)
        )
    )


@NNET1.of("Sigmoid", short="sigmoid")
def _sigmoid(c: activations.Sigmoid, source: Descriptor, to: Assembly) -> Descriptor:
    return to.sigmoid(source, "")


@NNET1.of("Tanh", short="tanh")
def _tanh(c: activations.Tanh, source: Descriptor, to: Assembly) -> Descriptor:
    return to.tanh(source, "")


@NNET1.of("ParametricRelu", short="prelu")
def _parametric_relu(c: activations.ParametricRelu, source: Descriptor, to: Assembly) -> Descriptor:
    above = to.scale(to.relu(source, "above"), c.alpha, c.alpha_learn_rate, "alpha")
    below = to.scale(to.relu(negative(source), "below"), c.beta, c.beta_learn_rate, "beta")
    return total(above, negative(below))


@NNET1.of("Dropout", short="dropout")
def _dropout(c: activations.Dropout, source: Descriptor, to: Assembly) -> Descriptor:
    component = GeneralDropout(dim=c.input_dim, dropout_proportion=c.rate, time_period=1)
    return to.add(component, source)


@NNET1.of("LengthNormComponent", short="lengthnorm")
def _length_norm(c: activations.LengthNorm, source: Descriptor, to: Assembly) -> Descriptor:
    rms = single(1.0 / np.sqrt(c.input_dim))
    return to.add(Normalize(dim=c.input_dim, target_rms=rms), source)


@NNET1.of("Splice", short="splice")
def _splice(c: columns.Splice, source: Descriptor, to: Assembly) -> Descriptor:
    if to.reach != (0, 0) and not to.clamp:
        to.edges_differ = True
        to.note(
            "nnet1 repeats the edge frames of this layer, nnet3 those of the input: frames nearer "
            "to an edge than the context differ (not so with --clamp-splices)"
        )
    return to.splice(source, c.offsets)


@NNET1.of("Copy", short="copy")
def _copy(c: columns.Copy, source: Descriptor, to: Assembly) -> Descriptor:
    return to.select(source, [index - 1 for index in c.indices])


@NNET1.of("AddShift", short="shift")
def _add_shift(c: columns.AddShift, source: Descriptor, to: Assembly) -> Descriptor:
    return to.offset(source, c.values, c.learn_rate)


@NNET1.of("Rescale", short="rescale")
def _rescale(c: columns.Rescale, source: Descriptor, to: Assembly) -> Descriptor:
    return to.scale(source, c.values, c.learn_rate)


@NNET1.of("ParallelComponent", short="parallel")
def _parallel(c: nested.Parallel, source: Descriptor, to: Assembly) -> Descriptor:
    inputs = to.split(source, [network[0].input_dim for network in c.networks])
    outputs = []
    reach = to.reach
    reaches = [reach]
    for (name, network), own in zip(c.nested(), inputs, strict=True):
        to.reach = reach
        with to.inside(name):
            outputs.append(NNET1.run(network, own, to, f"{name}."))
        reaches.append(to.reach)
    to.reach = max(r[0] for r in reaches), max(r[1] for r in reaches)
    return append(*outputs)


@NNET1.of("MultiBasisComponent", short="multibasis")
def _multi_basis(c: nested.MultiBasis, source: Descriptor, to: Assembly) -> Descriptor:
    to.note(
        f"nnet1 leaves out a basis whose posteriors add up to {nested.SMALLEST_OCCUPANCY:g} or "
        "less over a sentence; here it counts with that little"
    )
    own, selecting = to.split(source, [c.basis_dim, c.input_dim - c.basis_dim])
    outputs = []
    posteriors: Descriptor = source
    for name, network in c.nested():
        with to.inside(name):
            if name == "selector":
                posteriors = NNET1.run(network, selecting, to, f"{name}.")
            else:
                outputs.append(NNET1.run(network, own, to, f"{name}."))
    repeat = np.kron(np.eye(len(c.bases)), np.ones((c.output_dim, 1)))
    weights = to.split(to.transform(posteriors, repeat, "weights"), [c.output_dim] * len(c.bases))
    terms = [
        to.product(output, weight, f"basis{number}.weighted")
        for number, (output, weight) in enumerate(zip(outputs, weights, strict=True), 1)
    ]
    return to.settled(total(*terms))


@NNET1.of("SimpleSentenceAveragingComponent", short="average")
def _sentence_averaging(
    c: pooling.SimpleSentenceAveraging, source: Descriptor, to: Assembly
) -> Descriptor:
    if c.gradient_boost != 1:
        to.note(f"gradients are not boosted by {c.gradient_boost:g}")
    return _sentence_sum(source, to) if c.only_summing else _sentence_mean(source, to, c.shrinkage)


@NNET1.of("SentenceAveragingComponent", short="average")
def _nested_averaging(c: nested.SentenceAveraging, source: Descriptor, to: Assembly) -> Descriptor:
    with to.inside("net"):
        result = NNET1.run(c.network, source, to, "net.")
    return append(_sentence_mean(result, to, 0.0), source)


def _sentence_mean(source: Descriptor, to: Assembly, shrinkage: float) -> Descriptor:
    """The sum over all frames divided by (frames + shrinkage), at each frame."""
    to.sees_all_frames()
    to.note(f"sentences are averaged over {LONGEST_SENTENCE} frames in each direction at most")
    dim = to.dim(source)
    statistics = to.configured(
        "statistics",
        source,
        "StatisticsExtractionComponent",
        input_dim=dim,
        include_variance="false",
    )
    mean = to.configured(
        "mean",
        statistics,
        "StatisticsPoolingComponent",
        input_dim=dim + 1,
        left_context=LONGEST_SENTENCE,
        right_context=LONGEST_SENTENCE,
        num_log_count_features=1 if shrinkage else 0,
        output_stddevs="false",
    )
    if not shrinkage:
        return mean
    # frames / (frames + shrinkage) = sigmoid(log(frames) - log(shrinkage))
    log_count, mean_only = to.split(mean, [1, dim])
    ones = to.transform(log_count, np.ones((dim, 1)), "log-frames")
    shift = np.full(dim, -np.log(shrinkage), np.float32)
    with to.fixed():
        share = to.sigmoid(to.offset(ones, shift, suffix="shrinkage"), "share")
    return to.product(mean_only, share)


def _sentence_sum(source: Descriptor, to: Assembly) -> Descriptor:
    """The sum over all frames, at each frame: those up to it and those after it."""
    to.sees_all_frames()
    source = to.settled(source, "input")
    until, after = to.loop("until"), to.loop("after")
    dim = to.dim(source)
    to.close(until, NoOp(dim=dim), total(source, before(until, 1)))
    to.close(after, NoOp(dim=dim), total(source, before(after, -1)))
    return total(until, before(after, -1))
