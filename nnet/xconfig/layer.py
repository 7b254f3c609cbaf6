"""What every xconfig layer has: its line, its options, its outputs, and its config lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from nnet.text import values
from nnet.text.diagnose import USAGE
from nnet.text.source import TextError
from nnet.text.syntax import Line, NodeName, Setting
from nnet.text.values import true_or_false
from nnet.xconfig.lines import Chain, Wiring
from nnet.xconfig.option import Declared, InputOption, Option
from nnet.xconfig.scope import Output, Scope, Unsettled


@dataclass(frozen=True)
class Configs:
    """A layer's lines in each config file.

    `init` is the part of the network in front of a transform that is estimated from data, `ref`
    the network with a random transform in its place, and `final` the network.
    """

    init: tuple[Line, ...] = ()
    ref: tuple[Line, ...] = ()
    final: tuple[Line, ...] = ()


class Layer:
    """One line of an xconfig. A layer type is a subclass, registered by
    `nnet.xconfig.registry.register`, with options as class attributes.

    Attributes:
        line: the line in the file.
        name: the layer's name, unique in the file.
        values: the options' values by key.
        sound: whether it has no mistake, and reads no layer that has one.
        outputs_read: the outputs, "" for the main one, that the layers below read.
    """

    types: ClassVar[tuple[str, ...]] = ()
    """Its names, the first words of its lines."""
    example: ClassVar[str] = ""
    """Settings of an example, behind the layer type."""
    example_dim: ClassVar[int] = 40
    """Number of columns that the example reads."""
    in_kaldi: ClassVar[bool] = True
    """Whether Kaldi has the layer type, and can load what is made of it."""
    options: ClassVar[dict[str, Declared[Any]]] = {}

    def __init_subclass__(cls) -> None:
        """Collects the options, those of base classes first."""
        declared = [o for base in reversed(cls.__mro__) for o in vars(base).values()]
        cls.options = {o.key: o for o in declared if isinstance(o, Declared)}

    def __init__(self, line: Line, scope: Scope) -> None:
        self.line = line
        self.name = _name_of(line)
        self.values: dict[str, Any] = {}
        self.sound = True
        self.outputs_read: set[str] = set()
        self._refuse_unknown_options(scope)
        for key, option in self.options.items():
            with self._reporting(scope):
                self.values[key] = option.value(self, line.get(key), scope)
        if self.sound:
            with self._reporting(scope):
                self.check()

    def __str__(self) -> str:
        return f"{self.line.word} '{self.name}'"

    @contextmanager
    def _reporting(self, scope: Scope) -> Iterator[None]:
        """Reports an error; what follows from another error goes unsaid."""
        try:
            yield
        except Unsettled:
            self.sound = False
        except TextError as error:
            self.sound = False
            scope.report(error)

    def _refuse_unknown_options(self, scope: Scope) -> None:
        for setting in self.line.settings:
            if setting.key != "name" and setting.key not in self.options:
                self.sound = False
                scope.report(
                    TextError(
                        setting.key_span,
                        f"{self.line.word} has no option '{setting.key}'",
                        expected=f"one of name, {', '.join(sorted(self.options))}",
                        name=setting.key,
                        names=self.options,
                    )
                )

    def check(self) -> None:
        """Raises a TextError where options do not fit together or do not fit the input."""

    def wrong(self, key: str, message: str, **more: Any) -> TextError:
        """An error that points at an option's value, or at the line where it is not given."""
        setting = self.line.get(key)
        span = setting.value_span if setting is not None else self.line.word_span
        return TextError(span, message, **more)

    def outputs(self) -> dict[str, Output]:
        """What other layers can read: the output itself under "", auxiliary ones by name."""
        raise NotImplementedError

    def config(self) -> list[Line]:
        """The lines of both ref.config and final.config."""
        raise NotImplementedError

    def configs(self) -> Configs:
        """The lines of each config file."""
        lines = tuple(self.config())
        return Configs(ref=lines, final=lines)

    def passed(self, *keys: str) -> dict[str, Any]:
        """The values of options that go to a component under the same key, without empty ones."""
        return {key: self.values[key] for key in keys if self.values[key] != ""}

    def expanded(self, *, normalized: bool) -> Line:
        """The line with all options, sorted by key, as Kaldi's xconfig.expanded files have it.

        Args:
            normalized: whether descriptors have layer names in place of the short forms.
        """
        settings = [Setting("name", self.name)]
        for key, option in sorted(self.options.items()):
            value = self.values[key]
            if normalized and isinstance(option, InputOption):
                text = value.text
            else:
                text = option.text(value)
            settings.append(Setting(key, text))
        return Line(self.line.word, tuple(settings), span=self.line.span)


class LayerWithInput(Layer):
    """A layer that reads other layers."""

    input = InputOption("what the layer reads")

    def chain(self) -> Chain:
        """The layer's components; the first reads the layer's input."""
        return Chain(self.input.nodes, self.line.span)

    def wiring(self) -> Wiring:
        """The layer's components and nodes, in an order of its own."""
        return Wiring(self.name, self.line.span)

    def output(self, suffix: str, dim: int) -> Output:
        """The output of the layer's component node `name.suffix`, or `name` without a suffix."""
        name = f"{self.name}.{suffix}" if suffix else self.name
        return Output(NodeName(name, span=self.line.span), dim)


class MayPrecedeTransform(LayerWithInput):
    """A layer that can stand in front of a transform that is estimated from data."""

    include_in_init = Option(
        true_or_false, False, "whether init.config has it too, in front of a fixed-affine-layer"
    )

    def configs(self) -> Configs:
        lines = tuple(self.config())
        return Configs(init=lines if self.include_in_init else (), ref=lines, final=lines)


def input_dim(layer: Layer) -> int:
    """the input's"""
    if not isinstance(layer, LayerWithInput):
        raise TypeError(f"{layer} has no input")
    return layer.input.dim


def _name_of(line: Line) -> str:
    setting = line.get("name")
    if setting is None:
        raise TextError(line.span, f"this {line.word} has no name", expected="name=...")
    name = values.convert(setting, values.name)
    if name in USAGE:
        raise TextError(
            setting.value_span,
            f"a layer cannot be called '{name}'",
            hint=f"'{name}' is a word of descriptors",
        )
    return name
