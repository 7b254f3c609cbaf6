"""What every component has: its declared fields, dimensions and context."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nnet.components.field import (
    NOT_NEGATIVE,
    REQUIRED,
    FieldError,
    Kind,
    Mark,
    Old,
    Presence,
    Repeated,
    Role,
    Setting,
    Spec,
    largest_integer,
    single,
    stored,
)
from nnet.components.summary import plain
from nnet.components.window import TimeWindow
from nnet.errors import quoted
from nnet.limits import LARGEST_DIM, LARGEST_REACH, LARGEST_SETTING, above

if TYPE_CHECKING:
    from nnet.components.initial import Given, Initializer

Entry = Spec | Old | Repeated | Mark
Layout = tuple[tuple[str, Entry], ...]


@dataclass(kw_only=True, eq=False)
class Component:
    """A component: settings, numpy parameters and statistics, all as its model file holds them.

    Subclasses are dataclasses whose fields are declared by `stored` (one without fields of its
    own needs no decorator for that), registered by `nnet.components.registry.register`.
    """

    type_name: ClassVar[str]
    in_kaldi: ClassVar[bool] = True
    """Whether Kaldi knows the type, and so can load models with it."""
    layout: ClassVar[Layout] = ()
    settings: ClassVar[tuple[Setting, ...]] = ()
    info_order: ClassVar[tuple[str, ...]] = ("input_dim", "output_dim")
    averaged_over: ClassVar[Mapping[str, str]] = {}
    """For each stored average, the count that it is over."""

    def __init_subclass__(cls) -> None:
        """Collects the declared fields in file order; one declared again moves to its new place."""
        own = {
            name: value.metadata["spec"] if isinstance(value, dataclasses.Field) else value
            for name, value in vars(cls).items()
            if isinstance(value, Old | Repeated | Mark)
            or (isinstance(value, dataclasses.Field) and "spec" in value.metadata)
        }
        inherited = tuple(entry for entry in cls.layout if entry[0] not in own)
        cls.layout = inherited + tuple(own.items())

    @classmethod
    def specs(cls) -> dict[str, Spec]:
        """The declared fields by attribute name, in file order."""
        return {name: entry for name, entry in cls.layout if isinstance(entry, Spec)}

    def __post_init__(self) -> None:
        for name, spec in self.specs().items():
            if getattr(self, name) is None and callable(spec.default):
                setattr(self, name, spec.default(self))

    @classmethod
    def create(cls, given: Given, init: Initializer) -> Component:
        """A new component from the keys of a config line; parameters are drawn from `init`."""
        return cls(**given.fields)

    if TYPE_CHECKING:  # fields of some types, properties of the others

        @property
        def input_dim(self) -> int:
            """Number of columns that it reads."""

        @property
        def output_dim(self) -> int:
            """Number of columns that it makes."""

    @property
    def window(self) -> TimeWindow:
        """The input frames that one output frame reads."""
        return TimeWindow()

    def input_place(self, x: int) -> tuple[int, int]:
        """Which x index of the input row x of the output reads, and from which column on."""
        return x, 0

    def parameters(self) -> dict[str, np.ndarray]:
        """The trainable arrays by attribute name, in nnet3's order."""
        arrays = ((name, getattr(self, name)) for name, s in self.specs().items() if _trained(s))
        return {name: array for name, array in arrays if array is not None}

    @property
    def num_parameters(self) -> int:
        return sum(array.size for array in self.parameters().values())

    @property
    def flops_per_row(self) -> int:
        """About how many operations an output row takes."""
        return 2 * self.num_parameters or 4 * self.output_dim

    def default_of(self, name: str) -> Any:
        """The value that field `name` takes when it is not given."""
        default = self.specs()[name].default
        return default(self) if callable(default) else default

    def is_default(self, name: str) -> bool:
        default = self.default_of(name)
        return default is not REQUIRED and bool(getattr(self, name) == default)

    def check(self) -> None:
        """Raises FieldError if a value or a combination of values is not allowed."""
        for name, spec in self.specs().items():
            value, key = getattr(self, name), spec.key or name.replace("_", "-")
            if spec.check is not None and not spec.check.holds(value):
                raise FieldError(key, f"{key} (={quoted(value)}) must be {spec.check.text}")
            largest = largest_integer(spec.kind, value) if spec.role is Role.SETTING else 0
            if largest > LARGEST_SETTING:
                raise FieldError(key, above(key, largest, LARGEST_SETTING))
        self._check_size()

    def _check_size(self) -> None:
        """Raises FieldError if rows or windows are larger than any network needs."""
        for name in ("input_dim", "output_dim"):
            dim, key = getattr(self, name), name.replace("_", "-")
            if dim > LARGEST_DIM:
                raise FieldError(key, above(key, dim, LARGEST_DIM))
        frames = self.window.farthest
        if frames > LARGEST_REACH:
            raise FieldError("window", above("the number of frames reached", frames, LARGEST_REACH))

    def info_names(self) -> tuple[str, ...]:
        """The attributes that the info line shows, in order."""
        return self.info_order

    def info_items(self) -> Iterator[str]:
        """The parts of the info line after the type, as nnet3-info prints them."""
        specs = self.specs()
        for name in self.info_names():
            spec = specs.get(name)
            if spec is None:
                yield plain(name.replace("_", "-"), getattr(self, name))
            elif spec.shown or not self.is_default(name):
                key = spec.key or name.replace("_", "-")
                text = spec.info(self) if spec.info else plain(key, getattr(self, name))
                if text:
                    yield text

    def info(self) -> str:
        """The info line: type and fields."""
        with np.errstate(all="ignore"):  # a damaged model may hold infinities
            return ", ".join((self.type_name, *self.info_items()))

    def recount(self) -> None:
        """Changes the averages to what nnet3 writes after reading them.

        It holds sums in memory, so that its programs can change the last digit of an average.
        """

    def weighted_sum(self, others: Sequence[Component], weights: Sequence[float]) -> Component:
        """The component whose parameters, and sums of statistics, are weighted sums.

        Args:
            others: components of the same type and dimensions; all else is taken from this one.
            weights: one for this component and one for each other.

        Raises:
            FieldError: one of the others has another type or other dimensions.
        """
        everyone = (self, *others)
        values: dict[str, Any] = {}
        for name, spec in self.specs().items():
            own: list[Any] = [getattr(component, name, None) for component in everyone]
            if spec.role is Role.PARAMETER and own[0] is not None:
                self._check_alike(name, own)
                values[name] = weighted_arrays(own, weights)
            elif spec.role is Role.COUNT:
                values[name] = weighted_count(own, weights)
        moments = [component.moments() for component in everyone]
        for name, count in self.averaged_over.items():
            sums = [
                m[name] * (w * getattr(c, count))
                for m, w, c in zip(moments, weights, everyone, strict=True)
                if m[name].size
            ]
            total = np.asarray(sum(sums[1:], start=sums[0]) if sums else np.zeros(0))
            scale = np.float32(1.0 / values[count]) if values[count] else np.float32(1)
            moments[0][name] = total.astype(np.float32) * scale
        return dataclasses.replace(self, **values, **self.from_moments(moments[0]))

    def _check_alike(self, name: str, arrays: Sequence[Any]) -> None:
        shapes = {None if array is None else array.shape for array in arrays}
        if len(shapes) > 1:
            found = ", ".join(str(shape) for shape in shapes)
            raise FieldError(name, f"the models differ in the shape of {name}: {found}")

    def moments(self) -> dict[str, np.ndarray]:
        """The averages in `averaged_over`, in float64 and so that they can be added up."""
        return {name: getattr(self, name).astype(np.float64) for name in self.averaged_over}

    def from_moments(self, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The averages as they are stored, from float32 ones that `moments` gave the sums for."""
        return moments

    def scale(self, factor: float) -> None:
        """Scales parameters and counts in place, as `nnet3-copy --scale` does."""
        for name, spec in self.specs().items():
            value = getattr(self, name)
            if value is None or spec.role in (Role.SETTING, Role.FIXED):
                continue
            if spec.role is Role.AVERAGE and factor != 0:
                continue
            is_array = isinstance(value, np.ndarray)
            setattr(self, name, value * (np.float32(factor) if is_array else factor))


def _trained(spec: Spec) -> bool:
    return spec.role is Role.PARAMETER


def weighted_arrays(arrays: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """A weighted sum in float32; each product is added with one rounding, as BLAS does."""
    total = arrays[0] * np.float32(weights[0])
    for array, weight in zip(arrays[1:], weights[1:], strict=True):
        exact = total.astype(np.float64) + array.astype(np.float64) * np.float32(weight)
        total = exact.astype(np.float32)
    return total


def weighted_count(counts: Sequence[Any], weights: Sequence[float]) -> Any:
    """A weighted sum of numbers or arrays in float64; integers stay so, empty arrays are zeros."""
    if isinstance(counts[0], np.ndarray):
        full = [(count, w) for count, w in zip(counts, weights, strict=True) if count.size]
        return np.asarray(sum(count * w for count, w in full)) if full else counts[0]
    total = float(np.dot(np.array(weights, np.float64), np.array(counts, np.float64)))
    return int(total) if isinstance(counts[0], int) else total


def recounted_average(average: np.ndarray, count: float) -> np.ndarray:
    """An average after nnet3 has made it a sum in float64 and an average in float32 again."""
    total = (average.astype(np.float64) * count).astype(np.float32)
    return total * np.float32(1.0 / count) if count != 0 else total


def check_multiple(component: Any, whole: str, part: str) -> None:
    """Raises FieldError unless attribute `whole` is a multiple of attribute `part`."""
    a, b = getattr(component, whole), getattr(component, part)
    if b <= 0 or a % b != 0:
        names = whole.replace("_", "-"), part.replace("_", "-")
        raise FieldError(names[1], f"{names[0]} (={a}) must be a multiple of {names[1]} (={b})")


def check_length(component: Any, name: str, expected: int, reason: str) -> None:
    """Raises FieldError unless array attribute `name` has `expected` elements."""
    found = getattr(component, name).size
    if found != expected:
        key = name.replace("_", "-")
        raise FieldError(key, f"{key} has {found} elements, expected {expected} ({reason})")


@dataclass(kw_only=True, eq=False)
class Updatable(Component):
    """A component with parameters to train (nnet3's UpdatableComponent)."""

    info_order: ClassVar[tuple[str, ...]] = (
        "input_dim",
        "output_dim",
        "learning_rate",
        "is_gradient",
        "l2_regularize",
        "learning_rate_factor",
        "max_change",
    )

    learning_rate_factor: float = stored(
        Kind.REAL,
        "<LearningRateFactor>",
        "multiplies every learning rate that is set for the whole network",
        key="learning-rate-factor",
        default=1.0,
        check=NOT_NEGATIVE,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    is_gradient: bool = stored(
        Kind.BOOLEAN,
        "<IsGradient>",
        "the parameters are a gradient, not a model",
        default=False,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    max_change: float = stored(
        Kind.REAL,
        "<MaxChange>",
        "largest 2-norm of the change of the parameters in a minibatch; 0 for no limit",
        key="max-change",
        default=0.0,
        check=NOT_NEGATIVE,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    l2_regularize: float = stored(
        Kind.REAL,
        "<L2Regularize>",
        "strength of the l2 penalty on the parameters",
        key="l2-regularize",
        default=0.0,
        check=NOT_NEGATIVE,
        presence=Presence.NONDEFAULT,
        shown=False,
    )
    learning_rate: float = stored(
        Kind.REAL,
        "<LearningRate>",
        "learning rate, with the factor already in it",
        key="learning-rate",
        default=single(0.001),
        check=NOT_NEGATIVE,
        presence=Presence.SINCE,
    )

    def set_learning_rate(self, rate: float) -> None:
        """Sets the learning rate of the whole network, here multiplied by this one's factor."""
        self.learning_rate = single(single(rate) * self.learning_rate_factor)
