"""Estimating the fixed transform of a network's input from training data (`nnet train --lda`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from nnet.components.fixed import FixedAffine
from nnet.components.reshape import NoOp
from nnet.data.batches import Batch, Shape
from nnet.data.chain.minibatch import ChainTargets
from nnet.data.corpus import Corpus
from nnet.data.example_set import ExampleSet
from nnet.data.minibatch import AnyTargets, DenseTargets, Minibatch, SparseTargets
from nnet.errors import NnetError
from nnet.graph.dims import node_dim
from nnet.graph.network import ComponentNode, Network, OutputNode
from nnet.kernels.chain.numerator import numerator
from nnet.modelfile.loading import read_matrix
from nnet.modelfile.writing import BinaryWriter, save_bytes
from nnet.plan.request import Request
from nnet.runtime.compiled import compile_network
from nnet.text.syntax import NodeName, Offset
from nnet.training.feeds.corpus import Feed, first_batches
from nnet.training.feeds.examples import ExampleFeed
from nnet.training.lda import (
    Floats,
    LdaStatistics,
    UnknownTransform,
    feature_transform,
    pruned,
)
from nnet.training.options import TrainingOptions
from nnet.training.ports import main_output

FILE = "lda.mat"
OUTPUT = "output"
BEFORE = "before the transform"
"""The name of a node, which no node of a config can have."""
LARGEST_FRAMES = 4_000_000
"""Input frames that are used at most; Kaldi uses ten archives."""


def input_network(network: Network, transform: UnknownTransform) -> Network:
    """The part before a transform, whose `output` is what will be transformed."""
    component = network.components[transform.component]
    node = next(
        node
        for node in network.nodes.values()
        if isinstance(node, ComponentNode) and node.component == transform.component
    )
    kept = {n: node for n, node in network.nodes.items() if not isinstance(node, OutputNode)}
    before = ComponentNode(BEFORE, BEFORE, node.input)
    output = OutputNode(OUTPUT, Offset(NodeName(BEFORE), transform.delay))
    return dataclasses.replace(
        network,
        nodes={**kept, BEFORE: before, OUTPUT: output},
        components={**network.components, BEFORE: NoOp(dim=component.input_dim)},
    )


def transform_of_data(
    transform: UnknownTransform,
    network: Network,
    data: Corpus | ExampleSet,
    options: TrainingOptions,
    collator: Callable[[Corpus, Callable[[Shape], Request]], Callable[[Batch], Minibatch]],
) -> Floats:
    """The transform, float32 (dim, input dim + 1), from the first frames of an epoch.

    Args:
        transform: which, and how.
        network: the whole network.
        data: that it will be trained on.
        options: of its training.
        collator: what makes minibatches of a corpus, from requests for chunks.

    Raises:
        NnetError: targets that are no classes, or too few data.
    """
    main = main_output(network)
    target = main.name if main else OUTPUT
    part = input_network(network, transform)
    cpu = torch.device("cpu")
    feed: Feed | ExampleFeed
    if isinstance(data, Corpus):
        module = compile_network(part)
        step = options.frame_subsampling_factor
        collate = collator(data, lambda shape: module.chunk_request(shape[0], subsampling=step))
        feed = Feed(data, options.sampling, collate, cpu)
    else:
        feed = ExampleFeed(data, network, cpu)
    with feed.minibatches(first_batches(feed, 0, LARGEST_FRAMES)) as made:
        if isinstance(data, Corpus):
            return estimated_transform(transform, network, made, target, options.seed)
        chosen = (only_target(minibatch, target) for minibatch in made)
        some = (minibatch for minibatch in chosen if minibatch is not None)
        return estimated_transform(transform, network, some, target, options.seed)


def estimated_transform(
    transform: UnknownTransform,
    network: Network,
    minibatches: Iterable[Minibatch],
    target: str,
    seed: int,
) -> Floats:
    """The transform, float32 (dim, input dim + 1).

    Args:
        transform: which, and how.
        network: the whole network.
        minibatches: requests of `input_network`, with targets for its output.
        target: the output of `network` that the targets are for; its dim is that of the classes.
        seed: of --rand-prune.

    Raises:
        NnetError: targets that are no classes, or too few data.
    """
    component = network.components[transform.component]
    module = compile_network(input_network(network, transform)).eval()
    classes_of_target = node_dim(network, target)
    statistics = LdaStatistics(classes_of_target, component.input_dim)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for minibatch in minibatches:
            rows = module(minibatch.inputs, minibatch.request)[OUTPUT].flatten(0, 1).numpy()
            places, classes, weights = _classes(minibatch.targets[OUTPUT], classes_of_target)
            weights = pruned(weights, transform.rand_prune, random)
            used = weights != 0
            statistics.add(rows[places[used]], classes[used], weights[used])
    options = transform.options
    dim = options.dim if options.dim > 0 else component.output_dim
    return feature_transform(statistics, dataclasses.replace(options, dim=dim))


def with_transform(network: Network, name: str, matrix: Floats) -> Network:
    """The network with a transform as its component `name`.

    Raises:
        NnetError: the transform has another shape than the component.
    """
    component = network.components[name]
    expected = (component.output_dim, component.input_dim + 1)
    if matrix.shape != expected:
        raise NnetError(
            f"the LDA-like transform is {matrix.shape[0]} by {matrix.shape[1]}; expected: "
            f"{expected[0]} by {expected[1]}, as '{name}' needs; leave --dim out of --lda-opts"
        )
    made = FixedAffine(linear=matrix[:, :-1].copy(), bias=matrix[:, -1].copy())
    return dataclasses.replace(network, components={**network.components, name: made})


def only_target(minibatch: Minibatch, target: str) -> Minibatch | None:
    """A minibatch of examples as the part before the transform takes it; None without `target`."""
    times = dict(minibatch.request.outputs).get(target)
    if times is None:
        return None
    request = Request(minibatch.request.inputs, ((OUTPUT, times),))
    targets = {OUTPUT: minibatch.targets[target]}
    return dataclasses.replace(minibatch, request=request, targets=targets)


def write_transform(matrix: Floats, folder: Path) -> None:
    """Writes `lda.mat`, a Kaldi matrix."""
    writer = BinaryWriter()
    writer.matrix(matrix)
    save_bytes(bytes(writer), folder / FILE)


def read_transform(folder: Path) -> Floats | None:
    """What `write_transform` wrote, if it did."""
    path = folder / FILE
    return read_matrix(path) if path.exists() else None


def _classes(targets: AnyTargets, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pair of a row and a class: the row, the class and the weight.

    For LF-MMI these are the posteriors of the numerator alone, without a network.
    """
    if isinstance(targets, SparseTargets):
        ids, weights = targets.ids.numpy(), targets.weights.numpy()
        rows = np.arange(ids.shape[0] * ids.shape[1])
        return np.repeat(rows, ids.shape[2]), ids.reshape(-1), weights.reshape(-1)
    if isinstance(targets, DenseTargets):
        values = (targets.values * targets.weights[..., None]).flatten(0, 1).numpy()
        places, classes = np.nonzero(values)
        return places, classes, values[places, classes]
    if isinstance(targets, ChainTargets):
        zeros = torch.zeros(targets.frames, targets.sequences, dim)
        found = numerator(zeros, targets.graphs)
        rows, classes = np.divmod(found.positions.numpy(), dim)
        times, sequences = np.divmod(rows, targets.sequences)
        return sequences * targets.frames + times, classes, found.posteriors.float().numpy()
    raise NnetError("the LDA-like transform needs targets that say of what class each frame is")
