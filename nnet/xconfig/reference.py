"""The reference of all layer types, made from their declarations.

`python -m nnet.xconfig.reference > docs/xconfig.md` writes the page of the documentation.
"""

from __future__ import annotations

import inspect
import sys

from nnet.errors import NnetError, nearest
from nnet.text.parse import parse_xconfig
from nnet.text.write import write_line
from nnet.xconfig.expansion import expand
from nnet.xconfig.layer import Layer
from nnet.xconfig.option import Declared
from nnet.xconfig.registry import layer_types

_INTRODUCTION = """\
# xconfig

An xconfig describes a network layer by layer, one line each: the layer type, then settings
`key=value` in any order. `nnet xconfig net.xconfig -o configs` turns it into nnet3 configs, the
same that Kaldi's `xconfig_to_configs.py` writes. This page is made from the declarations of the
layer types by `python -m nnet.xconfig.reference > docs/xconfig.md`; `nnet xconfig --list` and
`nnet xconfig --describe LAYER` show it in a terminal.

```
input name=input dim=40
relu-batchnorm-layer name=tdnn1 dim=512 input=Append(-2,-1,0,1,2)  # a comment
output-layer name=output dim=3000
```

- Every layer has a `name`. A value that contains `=` is put in quotes:
  `ng-affine-options="update-period=2"`.
- `input` is a descriptor over the layers above: a name, or `Append(...)`, `Sum(...)`,
  `Offset(LAYER, T)`, `Scale(FACTOR, LAYER)`, `Round(LAYER, T)`, `ReplaceIndex(LAYER, t, 0)`,
  `IfDefined(...)`, `Failover(A, B)`, `Switch(...)`, `Const(VALUE, DIM)`. Without it a layer reads
  the one above.
- In a descriptor `[-1]` is the layer above, `[-2]` the one above that; a bare integer such as the
  -3 in `Append(-3,0,3)` is the layer above at that time offset; `tdnn1@-3` is `Offset(tdnn1, -3)`.
- `NAME.part` is a further output of a layer, where its description has one.
- Where a default is "the component's own", the option is passed on as it is written.
- `nnet xconfig --check FILE` finds all mistakes at once, `nnet xconfig --format FILE` prints the
  canonical layout.
"""


def overview() -> str:
    """All layer types with a line about each, by family."""
    width = max(map(len, layer_types()))
    blocks = []
    for family, classes in families().items():
        lines = [f"  {name:{width}}  {summary(cls)}" for cls in classes for name in cls.types]
        blocks.append("\n".join([family, *lines]))
    return "\n\n".join(blocks)


def describe(layer_type: str) -> str:
    """A layer type for a terminal: meaning, options, outputs, example, the config lines it makes.

    Raises:
        NnetError: there is no such layer type.
    """
    types = layer_types()
    if layer_type not in types:
        meant = nearest(layer_type, types)
        raise NnetError(
            f"there is no layer type '{layer_type}'"
            + (f"\ndid you mean '{meant}'?" if meant else "")
            + "\nnnet xconfig --list shows all of them"
        )
    cls = types[layer_type]
    header, *options = _option_rows(cls)
    widths = [max(len(row[i]) for row in options) for i in range(3)] if options else [0, 0, 0]
    table = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in options
    ]
    outputs = ", ".join(_output_names(layer_type, cls)) or "none that other layers can read"
    parts = {
        f"Options ({', '.join(header)})": table,
        "Outputs": [outputs],
        "Example": [_example_line(layer_type, cls)],
        "The config lines of the example": _config_lines(layer_type, cls),
    }
    sections = [f"{title}:\n" + "\n".join(f"  {x}" for x in rows) for title, rows in parts.items()]
    return "\n\n".join([layer_type, str(inspect.getdoc(cls)), *sections])


def markdown() -> str:
    """The page `docs/xconfig.md`."""
    sections = [_INTRODUCTION]
    for family, classes in families().items():
        sections.append(f"## {family}\n")
        sections += [_markdown_section(cls) for cls in classes]
    return "\n".join(sections)


def families() -> dict[str, list[type[Layer]]]:
    """The layer types by the heading of their file."""
    classes = dict.fromkeys(layer_types().values())
    found: dict[str, list[type[Layer]]] = {}
    for cls in sorted(classes, key=lambda cls: cls.__module__):
        document = str(sys.modules[cls.__module__].__doc__)
        heading = document.split("\n")[0].partition(":")[0].rstrip(".")
        found.setdefault(heading, []).append(cls)
    return found


def summary(cls: type[Layer]) -> str:
    """The first line of a layer type's description."""
    return str(inspect.getdoc(cls)).split("\n")[0]


def _markdown_section(cls: type[Layer]) -> str:
    header, *options = _option_rows(cls)
    table = [header, ("---",) * len(header), *options]
    rows = [
        "| " + " | ".join([f"`{key}`" if key not in ("option", "---") else key, *rest]) + " |"
        for key, *rest in table
    ]
    layer_type = cls.types[0]
    return "\n".join(
        [
            f"### {', '.join(cls.types)}",
            "",
            str(inspect.getdoc(cls)),
            "",
            *(rows if options else ["No options."]),
            "",
            "```",
            _example_line(layer_type, cls),
            "```",
            "",
            "<details><summary>The config lines of the example</summary>",
            "",
            "```",
            *_config_lines(layer_type, cls),
            "```",
            "",
            "</details>",
            "",
        ]
    )


def _option_rows(cls: type[Layer]) -> list[tuple[str, str, str, str]]:
    header = ("option", "values", "default", "meaning")
    return [header, *(_option_row(option) for option in cls.options.values())]


def _option_row(option: Declared[object]) -> tuple[str, str, str, str]:
    return option.key, option.accepts(), option.default_text() or '""', option.doc


def _example_line(layer_type: str, cls: type[Layer]) -> str:
    return f"{layer_type} {cls.example}"


def _example_layer(layer_type: str, cls: type[Layer]) -> Layer:
    line = _example_line(layer_type, cls)
    if layer_type == "input":
        text = f"{line}\noutput name=output"
    else:
        text = f"input name=input dim={cls.example_dim}\n{line}\n"
        text += "" if layer_type.startswith("output") else "output name=output"
    layers = expand(parse_xconfig(text, "<example>")).layers
    return next(layer for layer in layers if layer.line.word == layer_type)


def _config_lines(layer_type: str, cls: type[Layer]) -> list[str]:
    return [write_line(line) for line in _example_layer(layer_type, cls).configs().final]


def _output_names(layer_type: str, cls: type[Layer]) -> list[str]:
    outputs = _example_layer(layer_type, cls).outputs()
    return [f"NAME.{name}" if name else "NAME" for name in outputs]


if __name__ == "__main__":
    print(markdown(), end="")
