"""The tables of conversions: a component type's token, and the function that makes nodes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nnet.converters.assembly import Assembly
from nnet.converters.legacy import LegacyComponent
from nnet.errors import NnetError
from nnet.text.syntax import Descriptor

Convert = Callable[[Any, Descriptor, Assembly], Descriptor]
"""From a source component and its input to its output, in the network that the assembly holds."""


@dataclass(frozen=True)
class Conversion:
    """What nodes are called, and the function that makes them."""

    short: str
    convert: Convert


class Conversions(dict[str, Conversion]):
    """The conversions of one toolkit by the name of the component type."""

    def of(self, *type_names: str, short: str) -> Callable[[Convert], Convert]:
        """Registers the conversion of component types."""

        def register(convert: Convert) -> Convert:
            self.update(dict.fromkeys(type_names, Conversion(short, convert)))
            return convert

        return register

    def run(
        self,
        components: Sequence[Any],
        source: Descriptor,
        to: Assembly,
        place: str = "",
        first: int = 1,
    ) -> Descriptor:
        """The output of a chain of components.

        Args:
            place: where the chain is inside of another component, such as `net1.`.
            first: the number of the chain's first component.

        Raises:
            NnetError: a component cannot be converted.
        """
        for number, component in enumerate(components, first):
            source = self._convert(component, source, to, f"{place}{number}")
        return source

    def _convert(
        self, component: LegacyComponent, source: Descriptor, to: Assembly, place: str
    ) -> Descriptor:
        conversion = self.get(component.type_name)
        if conversion is None:
            raise NnetError(f"component {place} ({component.type_name}) cannot be converted")
        with to.making(conversion.short, f"{place} {component.type_name}") as part:
            part.result = conversion.convert(component, source, to)
            return part.result
