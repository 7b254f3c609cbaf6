"""From an xconfig to config files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nnet.text.kinds import CONFIG_WORDS
from nnet.text.source import Source, TextError
from nnet.text.syntax import Descriptor, File, Line, Setting
from nnet.text.traverse import leaves
from nnet.xconfig.fixed import IdctLayer, Matrix
from nnet.xconfig.layer import Layer
from nnet.xconfig.registry import layer_types
from nnet.xconfig.scope import Scope


@dataclass(frozen=True)
class Expansion:
    """What an xconfig stands for.

    Attributes:
        layers: its layers in order.
        init: the part in front of a transform that is estimated from data, with an output that
            gives the transform's input; None if there is no such transform.
        ref: the network with a random transform in place of the estimated one.
        final: the network.
        matrices: files that ref and final read and that the xconfig itself determines.
    """

    layers: tuple[Layer, ...]
    init: File | None
    ref: File
    final: File
    matrices: Mapping[str, Matrix] = field(default_factory=dict)

    @property
    def expanded1(self) -> File:
        """The xconfig with all options (Kaldi: xconfig.expanded.1)."""
        lines = tuple(layer.expanded(normalized=False) for layer in self.layers)
        return File(self.final.source, lines)

    @property
    def expanded2(self) -> File:
        """The same with layer names in place of short forms (Kaldi: xconfig.expanded.2)."""
        lines = tuple(layer.expanded(normalized=True) for layer in self.layers)
        return File(self.final.source, lines)


def expand(xconfig: File, existing_dims: Mapping[str, int] | None = None) -> Expansion:
    """The config files of an xconfig; nothing is written.

    Args:
        xconfig: its lines.
        existing_dims: the nodes of an existing model that the new layers may read, with their
            numbers of columns. A layer may have the name of such a node and then replaces it.

    Raises:
        TextError: at the first mistake.
    """
    existing = existing_dims or {}
    refuse_missing_input(xconfig, existing)
    scope = Scope(existing, xconfig.lines)
    layers = []
    for line in xconfig.lines:
        layers.append(make_layer(line, scope))
        scope.add(layers[-1])
    return assembled(xconfig.source, tuple(layers))


def assembled(source: Source, layers: tuple[Layer, ...]) -> Expansion:
    """The expansion of an xconfig whose layers are made.

    Raises:
        TextError: no output, nodes of the same name, a transform that cannot be estimated.
    """
    configs = [layer.configs() for layer in layers]
    final = tuple(line for config in configs for line in config.final)
    if not _outputs(final):
        raise TextError(
            layers[-1].line.word_span,
            "this xconfig has no output",
            expected="an output-layer or an output, such as: output-layer name=output dim=100",
        )
    _refuse_equal_names(final)
    return Expansion(
        layers,
        _init_config(source, [line for config in configs for line in config.init]),
        File(source, tuple(line for config in configs for line in config.ref)),
        File(source, final),
        {la.affine_transform_file: la.matrix() for la in layers if isinstance(la, IdctLayer)},
    )


def refuse_missing_input(xconfig: File, existing: Mapping[str, int]) -> None:
    """Raises a TextError for an xconfig without layers, or with nothing to begin from."""
    if not xconfig.lines:
        raise TextError(None, f"{xconfig.source.name}: no layer in this xconfig")
    first = xconfig.lines[0]
    if not existing and first.word != "input":
        raise TextError(
            first.word_span,
            f"the first layer is a {first.word}",
            expected="an input, such as: input name=input dim=40",
        )


def make_layer(line: Line, scope: Scope) -> Layer:
    """The layer of an xconfig line.

    Raises:
        TextError: an unknown type, a name that is taken, wrong options.
    """
    types = layer_types()
    if line.word in CONFIG_WORDS:
        raise TextError(
            line.word_span,
            f"'{line.word}' belongs in a config file",
            expected="a layer type, as this is an xconfig",
        )
    if line.word not in types:
        raise TextError(
            line.word_span,
            f"unknown layer type '{line.word}'",
            expected=f"one of the {len(types)} layer types that nnet xconfig --list shows",
            name=line.word,
            names=types,
        )
    layer = types[line.word](line, scope)
    earlier = scope.get(layer.name)
    if earlier is not None:
        setting = line.get("name")
        first = earlier.line.span.line if earlier.line.span else "?"
        raise TextError(
            setting.value_span if setting else line.span,
            f"the name '{layer.name}' is taken by the {earlier.line.word} in line {first}",
            expected="a name of its own for each layer",
        )
    return layer


def _outputs(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.word == "output-node"]


def _refuse_equal_names(lines: tuple[Line, ...]) -> None:
    """Two layers can make nodes of one name: `a.relu` as a layer, and a relu-layer `a`."""
    _refuse_repeated("node", [line for line in lines if line.word != "component"])
    _refuse_repeated("component", [line for line in lines if line.word == "component"])


def _refuse_repeated(kind: str, lines: list[Line]) -> None:
    seen: dict[str, Line] = {}
    for line in lines:
        name = line.get("name")
        if name is None:
            continue
        first = seen.setdefault(name.value, line)
        if first is not line:
            where = f" in line {first.span.line}" if first.span else ""
            raise TextError(
                line.word_span,
                f"this layer makes a {kind} '{name.value}', which a layer{where} has made",
                expected="other names for the layers",
            )


def _init_config(source: Source, lines: list[Line]) -> File | None:
    outputs = _outputs(lines)
    if not outputs:
        return None
    if len(outputs) > 1:
        raise TextError(
            outputs[1].word_span,
            "a second layer writes the output of init.config",
            hint="set write-init-config=false in all but one",
        )
    names = {name.value for line in lines if (name := line.get("name")) is not None}
    for setting in (line.get("input") for line in lines):
        for node in leaves(_descriptor(setting)) if setting is not None else ():
            if node.name not in names:
                raise TextError(
                    node.span,
                    f"the layer of '{node.name}' is not in init.config, whose output needs it",
                    hint="set include-in-init=true in that layer, "
                    "or write-init-config=false in this one",
                )
    return File(source, tuple(lines))


def _descriptor(setting: Setting) -> Descriptor:
    if setting.descriptor is None:
        raise TypeError(f"{setting} was not made by a layer")
    return setting.descriptor
