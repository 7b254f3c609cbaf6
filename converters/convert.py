"""From models of nnet1 and nnet2 to models of nnet3."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from nnet.arguments import check_argument
from nnet.components.nonlinearity import LogSoftmax, Softmax
from nnet.components.power import Log
from nnet.converters.assembly import Assembly, Part
from nnet.converters.nnet1 import recurrent_layers  # noqa: F401
from nnet.converters.nnet1.layers import NNET1
from nnet.converters.nnet2.layers import NNET2
from nnet.converters.sources import Nnet1Source, Source, read_source
from nnet.converters.targets.registry import TargetOptions, target_content
from nnet.errors import NnetError
from nnet.graph.check import check_network
from nnet.graph.context import context
from nnet.graph.network import ComponentNode, Network
from nnet.modelfile.loading import open_file
from nnet.modelfile.model import Model
from nnet.modelfile.transitions import read_transition_model
from nnet.text.syntax import Descriptor, NodeName

PRIOR_FLOOR = 1e-10
"""Pdfs whose share of the frames is below are never recognised (nnet1's --prior-floor)."""

NEVER = float(np.finfo(np.float32).max)
"""The prior of such pdfs: likelihoods are divided by it."""

CONVERSIONS = {"nnet1": NNET1, "nnet2": NNET2}

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Args:
        feature_transform: nnet1: a network in front of the network, which is not trained.
        class_frame_counts: nnet1: a vector of frames of each pdf, of which priors are made.
        transition_model: any file that begins with a transition model; makes a `.mdl`.
        log_softmax: put out logarithms of probabilities; by default if the result is a `.mdl`.
        clamp_splices: nnet1: repeat the edge frames of each layer, for whole utterances only.
        ivector_input: nnet2: the constant columns of the first splice, which are an i-vector,
            become an input `ivector`, of which the row at time 0 is read.
        kaldi_compatible: refuse results that Kaldi cannot load.
    """

    feature_transform: Path | None = None
    class_frame_counts: Path | None = None
    transition_model: Path | None = None
    log_softmax: bool | None = None
    clamp_splices: bool = False
    ivector_input: bool = True
    kaldi_compatible: bool = False


@dataclass
class Converted:
    """A converted model and how it came about.

    Args:
        source: what it was made from.
        model: the result.
        parts: what each component of the source became.
        logarithm: whether the output is the logarithm of the source's.
        whole_utterances: whether the result is right only on whole utterances in one chunk.
        edges_differ: whether frames nearer to an edge than the context cannot be the source's.
        own_components: parts that Kaldi cannot load.
    """

    source: Source
    model: Model
    parts: list[Part]
    logarithm: bool = False
    whole_utterances: bool = False
    edges_differ: bool = False
    own_components: list[str] = field(default_factory=list)


def convert_legacy(
    source: Path | bytes | Source, options: ConvertOptions | None = None, form: str = "auto"
) -> Converted:
    """The nnet3 model with the outputs of an nnet1 or nnet2 model.

    Raises:
        NnetError: a file is damaged, something cannot be converted, or with `kaldi_compatible`,
            the result needs components that Kaldi does not have.
    """
    options = ConvertOptions() if options is None else options
    found = source if isinstance(source, Source) else read_source(source, form)
    if isinstance(found, Model):
        raise NnetError("this is a model of nnet3 already; --to says what else it can become")
    found = _with_transform(found, options)
    _attach(found, options)
    assembly, network, logarithm = _converted(found, options, options.clamp_splices)
    if not assembly.clamp and any(r != context(network) for r in assembly.sequences):
        # frames repeated beyond the edges for a splice would be seen where all frames are
        assembly, network, logarithm = _converted(found, options, clamp=True)
    check_network(network)
    _check_pdfs(found, network)
    own = assembly.own_components()
    if options.kaldi_compatible and own:
        raise NnetError(
            f"Kaldi has no components for these parts: {', '.join(own)}; without "
            "--kaldi-compatible the model can be computed and trained here"
        )
    return Converted(
        source=found,
        model=Model(network, found.transition_model, found.priors),
        parts=assembly.parts,
        logarithm=logarithm,
        whole_utterances=bool(assembly.sequences) or assembly.clamp,
        edges_differ=assembly.edges_differ,
        own_components=own,
    )


def _converted(
    source: Source, options: ConvertOptions, clamp: bool
) -> tuple[Assembly, Network, bool]:
    """The network with all that was booked, and whether its output is a logarithm."""
    assembly = Assembly(source.components[0].input_dim, clamp=clamp)
    assembly.ivector_input = options.ivector_input
    result = _assemble(source, assembly)
    acoustic = source.transition_model is not None
    wanted = acoustic if options.log_softmax is None else options.log_softmax
    logarithm = wanted and _makes_probabilities(source)
    if logarithm:
        result = _logarithm(result, assembly)
    return assembly, assembly.finish(result), logarithm


def _with_transform(source: Source, options: ConvertOptions) -> Source:
    if options.feature_transform is None:
        return source
    if not isinstance(source, Nnet1Source):
        raise NnetError("--feature-transform is for nnet1 networks; this is one of nnet2")
    transform = read_source(options.feature_transform, "nnet1")
    assert isinstance(transform, Nnet1Source)
    made, read = transform.components[-1].output_dim, source.components[0].input_dim
    if made != read:
        raise NnetError(
            f"{options.feature_transform}: the feature transform makes {made} columns, the "
            f"network reads {read}"
        )
    return Nnet1Source(
        transform.components + source.components, transform=len(transform.components)
    )


def _attach(source: Source, options: ConvertOptions) -> None:
    """Attaches transition model and priors from files."""
    if options.transition_model is not None:
        source.transition_model = read_transition_model(open_file(options.transition_model))
    if options.class_frame_counts is None:
        return
    if source.transition_model is None:
        raise NnetError(
            "--class-frame-counts needs --transition-model: only .mdl files hold priors"
        )
    counts = open_file(options.class_frame_counts).vector().astype(np.float64)
    if not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise NnetError(f"{options.class_frame_counts}: expected counts of 0 or more")
    shares = counts / counts.sum()
    source.priors = np.where(shares < PRIOR_FLOOR, NEVER, shares + 1e-20).astype(np.float32)


def _assemble(source: Source, assembly: Assembly) -> Descriptor:
    conversions = CONVERSIONS[source.kind]
    result: Descriptor = NodeName("input")
    with assembly.fixed():
        result = conversions.run(source.components[: source.transform], result, assembly)
    rest = source.components[source.transform :]
    return conversions.run(rest, result, assembly, first=source.transform + 1)


def _makes_probabilities(source: Source) -> bool:
    """Whether the network's outputs are posteriors, or sums of posteriors."""
    names = [component.type_name.removesuffix("Component") for component in source.components]
    while len(names) > 1 and names[-1] in ("SumGroup", "Dropout", "Permute", "Copy"):
        names.pop()
    return names[-1] in ("Softmax", "HiddenSoftmax", "BlockSoftmax")


def _logarithm(result: Descriptor, assembly: Assembly) -> Descriptor:
    """The logarithm of posteriors: log-softmax in place of softmax, if that is the last node."""
    network = assembly.network
    node = network.nodes[result.name] if isinstance(result, NodeName) else None
    if isinstance(node, ComponentNode) and isinstance(network.components[node.name], Softmax):
        dim = assembly.dim(result)
        del network.nodes[node.name], network.components[node.name]
        assembly.part.nodes.remove(node.name)
        made = assembly.add(LogSoftmax(dim=dim), node.input, "logsoftmax")
    else:
        made = assembly.add(Log(dim=assembly.dim(result)), result, "log")
    assembly.part.result = made
    return made


def _check_pdfs(source: Source, network: Network) -> None:
    made = source.components[-1].output_dim
    if source.transition_model is not None and source.transition_model.num_pdfs > made:
        raise NnetError(
            f"the transition model has {source.transition_model.num_pdfs} pdfs, the network "
            f"makes {made} columns"
        )
    if source.priors is not None and source.priors.size != made:
        raise NnetError(f"there are {source.priors.size} priors for {made} columns of output")


def convert(
    source: Path | bytes,
    to: str = "nnet3",
    *,
    form: str = "auto",
    options: ConvertOptions | None = None,
    how: TargetOptions | None = None,
) -> Model | bytes:
    """A model of nnet1, nnet2 or nnet3 in another format.

    Args:
        source: a file's name, or its content: a model, an nnet1 prototype or an nnet2 config.
        to: `nnet3` gives a Model; `onnx` and `torch-export` the content of a file.
        form: what the source is; by default its content says so.
        options: how a legacy network is converted.
        how: how the result is written.

    Raises:
        NnetError: something is damaged or cannot be converted.
    """
    check_argument(source, (str, os.PathLike, bytes), "source", "a file's name, or its content")
    found = read_source(source, form)
    if isinstance(found, Source):
        found = convert_legacy(found, options).model
    if to == "nnet3":
        return found
    return target_content(found, to, how or TargetOptions()).data
