"""nnet2 models: networks (raw files), acoustic models (.mdl files) and configs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.components.config import create_component
from nnet.components.initial import Initializer
from nnet.converters.legacy import Rows
from nnet.converters.nnet2.base import Nnet2Component, nnet2_types
from nnet.errors import NnetError
from nnet.modelfile.component import read_component, write_component
from nnet.modelfile.loading import read_matrix, read_vector
from nnet.modelfile.tokens import Reader
from nnet.modelfile.transitions import (
    TransitionModel,
    read_transition_model,
    write_transition_model,
)
from nnet.modelfile.writing import BinaryWriter, TextWriter, Writer
from nnet.text.parse import parse_config
from nnet.text.source import TextError
from nnet.text.syntax import Line


@dataclass
class Nnet2Model:
    """A chain of components, and what is around it in a `.mdl` file.

    Args:
        components: each reads what the one before it makes.
        transition_model: in a `.mdl` file.
        priors: prior probabilities of the pdfs (num_pdfs,), or None.
    """

    components: list[Nnet2Component]
    transition_model: TransitionModel | None = None
    priors: np.ndarray | None = None

    @property
    def left_context(self) -> int:
        return -sum(component.offsets[0] for component in self.components)

    @property
    def right_context(self) -> int:
        return sum(component.offsets[-1] for component in self.components)

    def forward(self, rows: Rows) -> list[Rows]:
        """Each component's output on an utterance, its edges padded as nnet2 does.

        The last one is the network's output, `(frames, output_dim)`.
        """
        before = np.repeat(rows[:1], self.left_context, axis=0)
        after = np.repeat(rows[-1:], self.right_context, axis=0)
        rows = np.concatenate((before, rows, after)).astype(np.float64)
        results = []
        for component in self.components:
            rows = component.forward(rows)
            results.append(rows)
        return results


def parse_nnet2(reader: Reader) -> Nnet2Model:
    """The model in an open file, raw or `.mdl`.

    Raises:
        NnetError: it is not a valid model; with the byte offset.
    """
    if reader.peek_token() != "<TransitionModel>":
        return Nnet2Model(_read_components(reader))
    transition_model = read_transition_model(reader)
    components = _read_components(reader)
    priors = reader.vector()
    if priors.size > components[-1].output_dim:
        reader.fail(f"{components[-1].output_dim} priors at most", str(priors.size))
    return Nnet2Model(components, transition_model, priors if priors.size else None)


def _read_components(reader: Reader) -> list[Nnet2Component]:
    reader.expect("<Nnet>")
    reader.expect("<NumComponents>")
    start = reader.position
    count = reader.integer()
    if not 0 < count <= reader.remaining:
        reader.fail("the number of components", str(count), at=start)
    reader.expect("<Components>")
    types = nnet2_types()
    components: list[Nnet2Component] = []
    for _ in range(count):
        start = reader.position
        component = read_component(reader, types)
        assert isinstance(component, Nnet2Component)
        if components and components[-1].output_dim != component.input_dim:
            reader.fail(
                f"a component that reads {components[-1].output_dim} columns, as the one before "
                "it makes them",
                f"{component.type_name} that reads {component.input_dim}",
                at=start,
            )
        components.append(component)
    reader.expect("</Components>")
    reader.expect("</Nnet>")
    return components


def nnet2_bytes(model: Nnet2Model, *, binary: bool = True) -> bytes:
    """The content of a model file, as nnet2 writes it."""
    writer: Writer = BinaryWriter() if binary else TextWriter()
    if model.transition_model is not None:
        write_transition_model(writer, model.transition_model)
    writer.token("<Nnet>")
    writer.token("<NumComponents>")
    writer.integer(len(model.components))
    writer.token("<Components>")
    for component in model.components:
        write_component(writer, component)
        writer.text_newline()
    writer.token("</Components>")
    writer.token("</Nnet>")
    if model.transition_model is not None:
        writer.vector(model.priors)
    return bytes(writer)


def build_nnet2(
    text: str, name: str = "<string>", rng: np.random.Generator | None = None
) -> Nnet2Model:
    """The network that an nnet2 config describes, with random initial parameters.

    Raises:
        TextError: a mistake in the text, with its place.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    init = Initializer(rng, read_matrix, read_vector)
    components: list[Nnet2Component] = []
    for line in parse_config(text, name).lines:
        component = _component(line, init)
        if components and components[-1].output_dim != component.input_dim:
            raise TextError(
                line.span,
                f"{component.type_name} reads {component.input_dim} columns, the component before "
                f"it makes {components[-1].output_dim}",
            )
        components.append(component)
    if not components:
        raise NnetError(f"{name}: there are no components")
    return Nnet2Model(components)


def _component(line: Line, init: Initializer) -> Nnet2Component:
    types = nnet2_types()
    if line.word not in types:
        raise TextError(
            line.word_span or line.span,
            f"nnet2 has no component '{line.word}'",
            expected=f"one of {', '.join(types)}",
            name=line.word,
            names=types,
        )
    component = create_component(types[line.word], line, init)
    assert isinstance(component, Nnet2Component)
    return component
