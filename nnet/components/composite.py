"""Several components, one after the other, as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nnet.components.base import Component, Updatable
from nnet.components.field import POSITIVE, REQUIRED, FieldError, Kind, Setting, stored
from nnet.components.registry import register

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer


@register("CompositeComponent")
@dataclass(kw_only=True, eq=False)
class Composite(Updatable):
    """Applies `components` in their order; each reads its own frame alone.

    Parameters are named `component1.linear` and so on. The learning rate and its factor multiply
    those of the components inside.
    """

    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("num-components", Kind.INTEGER, "number of components", REQUIRED, POSITIVE),
        Setting(
            "component",
            Kind.COMPONENT,
            "component1, component2, ...: the keys of a component, quoted",
            numbered=True,
        ),
    )

    max_rows_process: int = stored(
        Kind.INTEGER,
        "<MaxRowsProcess>",
        "rows that nnet3 computes at a time, without meaning here",
        key="max-rows-process",
        default=4096,
        check=POSITIVE,
    )
    components: tuple[Component, ...] = stored(
        Kind.COMPONENTS, "<NumComponents>", "the components inside"
    )

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Composite:
        numbered, count = given["component"] or {}, given["num-components"]
        for number in range(1, count + 1):
            if number not in numbered:
                raise FieldError("num-components", f"'component{number}' is missing")
        for number in sorted(numbered):
            if not 1 <= number <= count:
                key = f"component{number}"
                raise FieldError(key, f"'{key}' is not one of {count} components")
        for name in set(given.fields) - {"max_rows_process"}:
            key = cls.specs()[name].key or name
            raise FieldError(key, f"'{key}' belongs to the components inside")
        return cls(components=tuple(numbered[i + 1] for i in range(count)), **given.fields)

    @property
    def input_dim(self) -> int:
        return self.components[0].input_dim

    @property
    def output_dim(self) -> int:
        return self.components[-1].output_dim

    def check(self) -> None:
        super().check()
        if not self.components:
            raise FieldError("num-components", "there are no components inside")
        for number, component in enumerate(self.components, start=1):
            if not component.window.is_point or component.input_place(1) != (1, 0):
                raise FieldError(
                    f"component{number}",
                    f"{component.type_name} reads other rows than its own, so that it cannot "
                    "stand in a CompositeComponent",
                )
        for number in range(1, len(self.components)):
            made, read = self.components[number - 1].output_dim, self.components[number].input_dim
            if made != read:
                raise FieldError(
                    f"component{number + 1}",
                    f"component{number + 1} reads {read} columns, component{number} makes {made}",
                )

    def parameters(self) -> dict[str, np.ndarray]:
        return {
            f"component{number}.{name}": array
            for number, component in enumerate(self.components, start=1)
            for name, array in component.parameters().items()
        }

    def recount(self) -> None:
        for component in self.components:
            component.recount()

    def scale(self, factor: float) -> None:
        for component in self.components:
            component.scale(factor)

    def weighted_sum(self, others: Sequence[Component], weights: Sequence[float]) -> Composite:
        inside = [c.components for c in (self, *others) if isinstance(c, Composite)]
        kinds = [tuple(component.type_name for component in each) for each in inside]
        for other in kinds:
            if other != kinds[0]:
                raise FieldError(
                    "components",
                    f"the models differ in the components inside: {', '.join(kinds[0])} and "
                    f"{', '.join(other)}",
                )
        alike = zip(*inside, strict=True)
        summed = tuple(first.weighted_sum(rest, weights) for first, *rest in alike)
        return dataclasses.replace(self, components=summed)

    def set_learning_rate(self, rate: float) -> None:
        super().set_learning_rate(rate)
        for component in self.components:
            if isinstance(component, Updatable):
                component.set_learning_rate(self.learning_rate)

    def info_items(self) -> Iterator[str]:
        for number, component in enumerate(self.components, start=1):
            yield f"sub-component{number} = {{ {component.info()} }}"

    def info(self) -> str:
        """The info lines of the components inside; no comma stands after the type."""
        return f"{self.type_name} {', '.join(self.info_items())}"
