"""Expanding one layer, called x, on an input of 24 columns."""

from __future__ import annotations

from nnet.text.parse import parse_xconfig
from nnet.text.write import write_file
from nnet.xconfig import Expansion, expand


def expanded(layer: str, *more: str) -> Expansion:
    lines = ("input name=input dim=24", layer, *more, "output name=output")
    return expand(parse_xconfig("\n".join(lines)))


def config(layer: str, *more: str) -> list[str]:
    """The lines of final.config between the input and the output."""
    return write_file(expanded(layer, *more).final).splitlines()[1:-1]


def components(layer: str) -> dict[str, str]:
    """The components of a layer: what follows the name, by the name behind `x.`."""
    found = {}
    for line in config(layer):
        word, name, *settings = line.split()
        if word == "component":
            found[name.removeprefix("name=x").removeprefix(".")] = " ".join(settings)
    return found


def nodes(layer: str) -> dict[str, str]:
    """The nodes of a layer: `component input` by the name behind `x.`."""
    found = {}
    for line in config(layer):
        word, name, *settings = line.replace("x.", "").split()
        if word != "component":
            text = " ".join(settings).replace("component=", "").replace("input=", "")
            found[name.removeprefix("name=")] = text
    return found
