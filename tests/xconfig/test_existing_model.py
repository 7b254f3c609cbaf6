"""New layers on the nodes of an existing model."""

from __future__ import annotations

import pytest

from nnet.text.parse import parse_xconfig
from nnet.text.source import TextError
from nnet.text.write import write_file
from nnet.xconfig import expand

EXISTING = {"input": 13, "tdnn1.affine": 20, "tdnn1.relu": 20, "old": 7}


def final(text: str) -> list[str]:
    return write_file(expand(parse_xconfig(text), EXISTING).final).splitlines()


def test_nodes_of_the_model_can_be_read_and_are_not_written_again() -> None:
    text = "relu-layer name=x dim=4 input=Append(tdnn1.affine, old@-1)\noutput name=output"
    lines = final(text)
    assert lines[0].startswith("component name=x.affine type=NaturalGradientAffineComponent")
    assert "input-dim=27 output-dim=4" in lines[0]
    assert lines[1].endswith("input=Append(tdnn1.affine, Offset(old, -1))")


def test_short_forms_count_only_new_layers() -> None:
    text = "no-op-component name=x input=old\nno-op-component name=y\noutput name=output"
    assert "component-node name=y component=y input=x" in final(text)
    with pytest.raises(TextError, match="needs 1 layer above this line, and there is none"):
        final("no-op-component name=x\noutput name=output")


def test_a_new_layer_takes_the_place_of_a_node() -> None:
    text = "affine-component name=old dim=9 input=input\nno-op-component name=y input=old\n"
    assert "component name=y type=NoOpComponent dim=9" in final(text + "output name=output")


def test_the_nearest_name_may_be_a_node() -> None:
    with pytest.raises(TextError, match=r"did you mean 'tdnn1\.relu'\?"):
        final("no-op-component name=x input=tdnn1.rely\noutput name=output")
