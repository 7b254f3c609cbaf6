"""A network as config text for nnet3-init, with its parameters in matrix and vector files.

Config lines name the files where nnet3 has a key for that (`matrix=`, `vector=`, `scales=`,
`bias=`). A TdnnComponent, which has no such key, becomes an affine or linear component that reads
the frames side by side. Other components' parameters are written beside the config all the same,
and named in comments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnet.components.affine import Linear, NaturalGradientAffine
from nnet.components.base import Component
from nnet.components.field import Kind
from nnet.components.normalize import BatchNorm
from nnet.components.tdnn import Tdnn
from nnet.converters.targets.registry import TargetOptions, folder_target
from nnet.errors import NnetError
from nnet.graph.canonical import canonical
from nnet.graph.lines import node_lines
from nnet.graph.network import ComponentNode, Network, Node
from nnet.modelfile.model import Model
from nnet.modelfile.writing import BinaryWriter, TextWriter, save_bytes
from nnet.text.syntax import Append, Offset

CONFIG = "final.config"

TRAINING_FIELDS = (
    "learning_rate_factor",
    "learning_rate",
    "max_change",
    "l2_regularize",
    "orthonormal_constraint",
)
"""How a component is trained, without the settings of its natural gradient."""


def _affine(component: Any) -> np.ndarray:
    """The matrix, with the bias as its last column if there is one."""
    linear = component.filters if hasattr(component, "filters") else component.linear
    bias = getattr(component, "bias", None)
    return linear if bias is None else np.column_stack((linear, bias))


FILE_KEYS: dict[str, Callable[[Any], np.ndarray]] = {
    "matrix": _affine,
    "vector": lambda c: c.scales if hasattr(c, "scales") else c.offsets,
    "scales": lambda c: c.scales,
    "bias": lambda c: c.bias,
}
"""What the files of config keys hold."""


@folder_target("nnet3-config")
def config_folder(model: Model, folder: str, options: TargetOptions) -> list[str]:
    return write_config_files(model.network, folder, binary=options.binary)


def write_config_files(network: Network, folder: str, *, binary: bool = True) -> list[str]:
    """Writes `final.config` and a file for each array of parameters to a folder.

    Returns:
        What the config does not hold: the components whose parameters no config line can name
        (their files are there), and those with statistics of batch-norm.

    Raises:
        NnetError: a file cannot be written.
    """
    place = Path(folder)
    _make_folder(place)
    network = _without_tdnn(network)
    lines, left_out = [], []
    for name, component in network.components.items():
        line, arrays = _component_line(name, component, place)
        for file, values in arrays.items():
            save_bytes(_array_bytes(values, binary), place / file)
        if not any(setting.key in FILE_KEYS for setting in component.settings) and arrays:
            left_out.append(name)
            line += f"  # parameters in {', '.join(arrays)}"
        lines.append(line)
    lines += node_lines(network)
    save_bytes(("\n".join(lines) + "\n").encode(), place / CONFIG)
    return _remarks(network, left_out)


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NnetError(f"cannot make the folder '{place}': {error.strerror}") from None


def _remarks(network: Network, left_out: list[str]) -> list[str]:
    """What the config does not hold, in words."""
    components = network.components.items()
    normalizing = [name for name, c in components if isinstance(c, BatchNorm) and c.count > 0]
    remarks = []
    if left_out:
        remarks.append(
            f"config lines cannot name files for the parameters of: {', '.join(left_out)}"
        )
    if normalizing:
        remarks.append(
            f"config lines cannot hold the batch-norm statistics of: {', '.join(normalizing)}"
        )
    return remarks


def _without_tdnn(network: Network) -> Network:
    """The network with affine components on appended frames in place of TdnnComponents."""
    components = dict(network.components)
    nodes: dict[str, Node] = dict(network.nodes)
    for name, node in network.nodes.items():
        if isinstance(node, ComponentNode):
            component = network.components[node.component]
            if isinstance(component, Tdnn):
                components[node.component] = _as_affine(component)
                frames = tuple(Offset(node.input, t) for t in component.time_offsets)
                nodes[name] = replace(node, input=canonical(Append(frames)))
    return Network(nodes, components)


def _as_affine(tdnn: Tdnn) -> NaturalGradientAffine | Linear:
    """What a TdnnComponent does with the frames that it reads side by side."""
    training = {field: getattr(tdnn, field) for field in TRAINING_FIELDS}
    if tdnn.bias is None:
        return Linear(linear=tdnn.linear, **training)
    return NaturalGradientAffine(linear=tdnn.linear, bias=tdnn.bias, **training)


def _component_line(
    name: str, component: Component, place: Path
) -> tuple[str, dict[str, np.ndarray]]:
    """The config line of a component, and its arrays by file name."""
    words = ["component", f"name={name}", f"type={component.type_name}"]
    arrays: dict[str, np.ndarray] = {}
    file_key = next((s.key for s in component.settings if s.key in FILE_KEYS), None)
    for setting in component.settings:
        if setting.key == file_key:
            file = f"{name}.{'mat' if setting.key == 'matrix' else 'vec'}"
            arrays[file] = FILE_KEYS[setting.key](component)
            words.append(f"{setting.key}={place / file}")
        elif setting.unless is None or file_key is None:
            value = getattr(component, setting.key.replace("-", "_"), None)
            words += _word(setting.key, setting.kind, value)
    for field, spec in component.specs().items():
        if spec.key is not None and not component.is_default(field):
            words += _word(spec.key, spec.kind, getattr(component, field))
    if file_key is None:
        arrays = {f"{name}.{n}.mat": array for n, array in component.parameters().items()}
    return " ".join(words), arrays


def _word(key: str, kind: Kind, value: Any) -> list[str]:
    """`key=value`, if the value can be written in a line."""
    if isinstance(value, bool):
        return [f"{key}={'true' if value else 'false'}"]
    if isinstance(value, int | float):
        return [f"{key}={value:.9g}"]
    if kind is Kind.PAIRS and value:
        return [f"{key}={';'.join(f'{a},{b}' for a, b in value)}"]
    if kind is Kind.INTEGERS and value is not None:
        return [f"{key}={','.join(map(str, value))}"]
    return []


def _array_bytes(values: np.ndarray, binary: bool) -> bytes:
    writer = BinaryWriter() if binary else TextWriter()
    if values.ndim == 1:
        writer.vector(values)
    else:
        writer.matrix(values.reshape(len(values), -1))
    return bytes(writer)
