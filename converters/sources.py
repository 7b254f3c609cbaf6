"""What a file holds: a model of nnet1, nnet2 or nnet3, or the text from which one is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nnet.converters.legacy import LegacyComponent, Rows
from nnet.converters.nnet1.model import Nnet1, build_nnet1, forward, parse_nnet1
from nnet.converters.nnet2.base import Nnet2Component, nnet2_types
from nnet.converters.nnet2.model import Nnet2Model, build_nnet2, parse_nnet2
from nnet.errors import NnetError
from nnet.modelfile.kinds import named_instead
from nnet.modelfile.loading import open_bytes, open_file
from nnet.modelfile.model import Model, parse_model
from nnet.modelfile.tokens import Reader
from nnet.modelfile.transitions import TransitionModel, read_transition_model

FORMATS = ("auto", "nnet1", "nnet2", "nnet3")


@dataclass
class Source:
    """A legacy network with all that is needed to convert and to compute it.

    Args:
        components: the chain; of an nnet1 network with its feature transform in front.
        transform: how many of them belong to the feature transform.
        transition_model: as in a `.mdl` file.
        priors: prior probabilities of the pdfs.
    """

    kind: ClassVar[str]

    components: Sequence[LegacyComponent]
    transform: int = 0
    transition_model: TransitionModel | None = None
    priors: np.ndarray | None = None

    def outputs(self, rows: Rows) -> list[Rows]:
        """Each component's output on an utterance, `(frames, dim)`, the frames those of `rows`."""
        raise NotImplementedError


@dataclass
class Nnet1Source(Source):
    """A network of nnet1."""

    kind = "nnet1"

    components: Nnet1

    def outputs(self, rows: Rows) -> list[Rows]:
        return forward(self.components, rows)


@dataclass
class Nnet2Source(Source):
    """A model of nnet2."""

    kind = "nnet2"

    components: list[Nnet2Component]

    def outputs(self, rows: Rows) -> list[Rows]:
        model = Nnet2Model(self.components)
        ahead = model.left_context
        results = []
        for component, result in zip(model.components, model.forward(rows), strict=True):
            ahead += component.offsets[0]
            results.append(result[ahead : ahead + len(rows)])
        return results


def read_source(
    source: str | os.PathLike[str] | bytes, form: str = "auto", name: str = "<bytes>"
) -> Source | Model:
    """A legacy network, or a model of nnet3.

    Args:
        source: a file's name (`-` is standard input), or its content.
        form: what it is, one of `FORMATS`.

    Raises:
        NnetError: it cannot be read, is damaged, or is something else.
    """
    reader = open_bytes(source, name) if isinstance(source, bytes) else open_file(source)
    if form not in FORMATS:
        raise NnetError(f"unknown format '{form}', expected one of {', '.join(FORMATS)}")
    found = _format(reader) if form == "auto" else form
    if found == "nnet3":
        return parse_model(reader)
    if found == "nnet1":
        return _nnet1(reader)
    return _nnet2(reader)


def _format(reader: Reader) -> str:
    """The format of what begins here, by its first tokens."""
    start = reader.position
    first = reader.peek_token() or ""
    if first == "<TransitionModel>":
        read_transition_model(reader)
        first = reader.peek_token() or ""
        if first not in ("<Nnet>", "<Nnet3>"):
            named = named_instead(reader.data) or f"'{first}' after a transition model"
            reader.fail("a model of nnet1, nnet2 or nnet3", named)
    if first == "<Nnet>":
        reader.expect("<Nnet>")
        first = reader.peek_token() or ""
        found = "nnet2" if first == "<NumComponents>" else "nnet1"
    elif first == "<Nnet3>":
        found = "nnet3"
    elif _is_config(reader):
        found = "nnet2"
    elif first.startswith("<"):
        found = "nnet1"
    else:
        reader.fail("a model of nnet1, nnet2 or nnet3")
    reader.position = start
    return found


def _nnet1(reader: Reader) -> Source:
    network: Nnet1
    if not reader.binary and _is_prototype(reader):
        network = build_nnet1(_text(reader), reader.name)
    else:
        network = parse_nnet1(reader)
    return Nnet1Source(network)


def _is_prototype(reader: Reader) -> bool:
    """Whether this is a prototype: a component's type is followed by `<InputDim>`."""
    words = reader.data[reader.position : reader.position + 1000].split()
    return words[:1] == [b"<NnetProto>"] or words[1:2] == [b"<InputDim>"]


def _nnet2(reader: Reader) -> Source:
    is_config = _is_config(reader)
    model = build_nnet2(_text(reader), reader.name) if is_config else parse_nnet2(reader)
    return Nnet2Source(
        model.components, transition_model=model.transition_model, priors=model.priors
    )


def _is_config(reader: Reader) -> bool:
    """Whether this is an nnet2 config: the first word is a component's type or a comment."""
    first = reader.peek_token() or ""
    return not reader.binary and (first in nnet2_types() or first.startswith("#"))


def _text(reader: Reader) -> str:
    try:
        return reader.data[:].decode()
    except UnicodeDecodeError as error:
        raise NnetError(f"{reader.name}: byte {error.start} is not UTF-8 text") from None
