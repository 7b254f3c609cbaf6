"""All that a new component type takes: one class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from nnet.components import registry
from nnet.components.base import Updatable
from nnet.components.config import component_from_line
from nnet.components.field import POSITIVE, Kind, Presence, Role, stored
from nnet.components.initial import Initializer
from nnet.components.summary import mean_stddev
from nnet.modelfile.component import read_component, write_component
from nnet.modelfile.loading import open_bytes
from nnet.modelfile.writing import BinaryWriter, TextWriter
from nnet.text.parse import parse_config


@pytest.fixture
def shift_type() -> Iterator[None]:
    known = dict(registry.component_types())

    @registry.register("ShiftComponent")
    @dataclass(kw_only=True, eq=False)
    class Shift(Updatable):
        """Adds a trained number."""

        info_order: ClassVar[tuple[str, ...]] = (*Updatable.info_order, "shift", "steps")

        dim: int = stored(Kind.INTEGER, "<Dim>", "columns", key="dim", check=POSITIVE)
        shift: np.ndarray = stored(
            Kind.VECTOR,
            "<Shift>",
            "numbers to add",
            default=lambda c: np.full(c.dim, 2, np.float32),
            role=Role.PARAMETER,
            info=lambda c: mean_stddev("shift", c.shift),
        )
        steps: tuple[int, ...] = stored(
            Kind.INTEGERS,
            "<Steps>",
            "an example",
            key="steps",
            default=(1, 2),
            presence=Presence.NONDEFAULT,
            shown=False,
        )

        @property
        def input_dim(self) -> int:
            return self.dim

        @property
        def output_dim(self) -> int:
            return self.dim

    registry.component_types.cache_clear()
    yield
    registry._types.clear()
    registry._types.update(known)
    registry.component_types.cache_clear()


@pytest.mark.usefixtures("shift_type")
@pytest.mark.parametrize("form", [BinaryWriter, TextWriter])
def test_config_file_info_and_documentation(form: type[BinaryWriter] | type[TextWriter]) -> None:
    (line,) = parse_config("component name=s type=ShiftComponent dim=3 steps=4,5").lines
    component = component_from_line(line, Initializer(np.random.default_rng(0)))
    writer = form()
    write_component(writer, component)
    again = read_component(open_bytes(bytes(writer), "f"))
    assert (
        again.info()
        == component.info()
        == (
            "ShiftComponent, input-dim=3, output-dim=3, learning-rate=0.001, "
            "shift-{mean,stddev}=2,0, steps=4,5"
        )
    )
    assert again.num_parameters == 3
    assert "steps (integers): an example. Default: (1, 2)." in (type(again).__doc__ or "")


@pytest.mark.usefixtures("shift_type")
def test_a_type_is_registered_once() -> None:
    with pytest.raises(TypeError, match="ShiftComponent is registered twice"):
        registry.register("ShiftComponent")(Updatable)
