"""Models as files: `.raw` (a network) and `.mdl` (a transition model and a network)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from nnet.arguments import check_argument
from nnet.components.base import Component
from nnet.graph.build import parse_nodes
from nnet.graph.check import check_network
from nnet.graph.context import context
from nnet.graph.info import acoustic_model_info, network_info
from nnet.graph.lines import node_lines
from nnet.graph.network import Network
from nnet.modelfile.component import read_component, write_component
from nnet.modelfile.kinds import named_instead
from nnet.modelfile.loading import open_bytes, open_file
from nnet.modelfile.tokens import Reader, shortened
from nnet.modelfile.transitions import (
    TransitionModel,
    read_transition_model,
    write_transition_model,
)
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer, save_bytes


@dataclass
class Model:
    """What a model file holds.

    Args:
        network: the network.
        transition_model: the transition model in front of it; None in a `.raw` file.
        priors: prior probabilities of the pdfs (num_pdfs,), or None.
        left_context: as stored in a `.mdl` file, in frames; computed when written if None.
        right_context: as `left_context`.
    """

    network: Network
    transition_model: TransitionModel | None = None
    priors: np.ndarray | None = None
    left_context: int | None = None
    right_context: int | None = None

    @property
    def is_acoustic(self) -> bool:
        """Whether there is a transition model, as in a `.mdl` file."""
        return self.transition_model is not None

    def info(self) -> str:
        """The text of nnet3-am-info, or of nnet3-info for a raw network."""
        if self.is_acoustic:
            return acoustic_model_info(self.network, self.priors)
        return network_info(self.network)


def read_model(source: str | os.PathLike[str] | bytes, name: str = "<bytes>") -> Model:
    """A model from a file, `-` (standard input), or bytes. Its content says which kind it is.

    Raises:
        NnetError: the file can not be read or is not a valid model; with the byte offset.
    """
    check_argument(source, (str, os.PathLike, bytes), "source", "a file's name, or its content")
    return parse_model(open_bytes(source, name) if isinstance(source, bytes) else open_file(source))


def parse_model(reader: Reader) -> Model:
    """The model in an open file; see `read_model`."""
    first = reader.peek_token()
    if first == "<TransitionModel>":
        return _read_acoustic(reader)
    if first != "<Nnet3>":
        reader.fail("<Nnet3> or <TransitionModel> at the beginning of a model")
    return Model(read_network(reader))


def _read_acoustic(reader: Reader) -> Model:
    transition_model = read_transition_model(reader)
    if reader.peek_token() != "<Nnet3>" and (named := named_instead(reader.data)):
        found = shortened((reader.peek_token() or "").encode("latin-1"))
        reader.fail("<Nnet3> after the transition model", f"{found}: {named}")
    network = read_network(reader)
    reader.expect("<LeftContext>")
    left = reader.integer()
    reader.expect("<RightContext>")
    right = reader.integer()
    reader.expect("<Priors>")
    priors = reader.vector()
    return Model(network, transition_model, priors if priors.size else None, left, right)


def read_network(reader: Reader) -> Network:
    """The network that begins here, from `<Nnet3>` to `</Nnet3>`."""
    reader.expect("<Nnet3>")
    rest = reader.line()
    if rest:
        reader.fail("a line end after <Nnet3>", shortened(rest.encode()))
    lines = []
    while line := reader.line():
        lines.append(line)
    nodes = parse_nodes("\n".join(lines), f"{reader.name} (nodes)")
    reader.expect("<NumComponents>")
    start = reader.position
    count = reader.integer()
    if not 0 <= count <= reader.remaining:
        reader.fail("the number of components", str(count), at=start)
    components: dict[str, Component] = {}
    for _ in range(count):
        reader.expect("<ComponentName>")
        start = reader.position
        name = reader.token("the name of a component")
        if name in components:
            reader.fail("component names that differ", f"a second component '{name}'", at=start)
        components[name] = read_component(reader)
    reader.expect("</Nnet3>")
    network = Network(nodes, components)
    check_network(network)
    return network


def write_model(
    model: Model | Network, path: str | os.PathLike[str], *, binary: bool = True
) -> None:
    """Writes a model file in one step (see `save_bytes`); `-` is standard output.

    Args:
        model: a Model; or a Network, which makes a `.raw` file.
        path: the file.
        binary: in Kaldi's binary form, or as text.
    """
    check_argument(
        model,
        (Model, Network),
        "model",
        "a Model or a Network, then the file's name; of a compiled module, module.to_network()",
    )
    save_bytes(model_bytes(model, binary=binary), path)


def model_bytes(model: Model | Network, *, binary: bool = True) -> bytes:
    """The content of a model file."""
    model = Model(model) if isinstance(model, Network) else model
    writer: Writer = BinaryWriter() if binary else TextWriter()
    if model.transition_model is not None:
        write_transition_model(writer, model.transition_model)
    write_network(writer, model.network)
    if model.transition_model is not None:
        left, right = model.left_context, model.right_context
        if left is None or right is None:
            left, right = context(model.network)
        writer.token("<LeftContext>")
        writer.integer(left)
        writer.token("<RightContext>")
        writer.integer(right)
        writer.token("<Priors>")
        writer.vector(model.priors)
    return bytes(writer)


def write_network(writer: Writer, network: Network) -> None:
    """Writes a network from `<Nnet3>` to `</Nnet3>`."""
    writer.token("<Nnet3>")
    writer.line()
    for line in node_lines(network):
        writer.line(line)
    writer.line()
    writer.token("<NumComponents>")
    writer.integer(len(network.components))
    writer.text_newline()
    for name, component in network.components.items():
        writer.token("<ComponentName>")
        writer.token(name)
        write_component(writer, component)
        writer.text_newline()
    writer.token("</Nnet3>")
