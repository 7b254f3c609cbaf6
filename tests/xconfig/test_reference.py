"""The reference of layer types is complete, and the page in docs/ is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.xconfig.reference import describe, families, markdown, overview
from nnet.xconfig.registry import layer_types

PAGE = Path(__file__).parents[2] / "docs" / "xconfig.md"

# The layer types of the table in Kaldi's steps/libs/nnet3/xconfig/parser.py.
KALDIS = """
    input output output-layer
    relu-layer relu-renorm-layer relu-batchnorm-dropout-layer relu-dropout-layer
    relu-batchnorm-layer relu-batchnorm-so-layer batchnorm-so-relu-layer batchnorm-layer
    sigmoid-layer tanh-layer fixed-affine-layer idct-layer affine-layer
    lstm-layer lstmp-layer lstmp-batchnorm-layer fast-lstm-layer fast-lstm-batchnorm-layer
    fast-lstmp-layer fast-lstmp-batchnorm-layer lstmb-layer stats-layer
    relu-conv-layer conv-layer conv-relu-layer conv-renorm-layer relu-conv-renorm-layer
    batchnorm-conv-layer conv-relu-renorm-layer batchnorm-conv-relu-layer
    relu-batchnorm-conv-layer relu-batchnorm-noconv-layer relu-noconv-layer
    conv-relu-batchnorm-layer conv-relu-batchnorm-so-layer conv-relu-batchnorm-dropout-layer
    conv-relu-dropout-layer res-block res2-block channel-average-layer
    attention-renorm-layer attention-relu-renorm-layer attention-relu-batchnorm-layer
    relu-renorm-attention-layer
    gru-layer pgru-layer opgru-layer norm-pgru-layer norm-opgru-layer fast-gru-layer
    fast-pgru-layer fast-norm-pgru-layer fast-opgru-layer fast-norm-opgru-layer
    tdnnf-layer prefinal-layer spec-augment-layer renorm-component batchnorm-component
    no-op-component linear-component affine-component scale-component dim-range-component
    offset-component combine-feature-maps-layer delta-layer
"""


def test_kaldis_layer_types_are_all_there() -> None:
    known = {name for name, cls in layer_types().items() if cls.in_kaldi}
    assert known == set(KALDIS.split())


def test_layer_types_of_our_own_say_so() -> None:
    own = {cls for cls in layer_types().values() if not cls.in_kaldi}
    assert own
    assert all("Not loadable by Kaldi." in str(cls.__doc__) for cls in own)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == markdown(), (
        "write it again: python -m nnet.xconfig.reference > docs/xconfig.md"
    )


def test_the_overview_has_each_type_once() -> None:
    named = [line.split()[0] for line in overview().splitlines() if line.startswith("  ")]
    assert sorted(named) == sorted(layer_types())
    assert all(cls.types for classes in families().values() for cls in classes)


@pytest.mark.parametrize("layer_type", layer_types())
def test_each_type_is_described(layer_type: str) -> None:
    cls = layer_types()[layer_type]
    text = describe(layer_type)
    assert text.startswith(layer_type + "\n")
    assert f"{layer_type} {cls.example}" in text
    rows = [line.split() for line in text.splitlines()]
    for key, option in cls.options.items():
        start = [key, *option.accepts().split()]
        assert any(row[: len(start)] == start for row in rows)
        assert option.doc in text
        assert option.default_text() in text
    assert "name=" in text.split("The config lines of the example:\n")[1]


def test_a_type_that_is_none() -> None:
    with pytest.raises(NnetError, match="no layer type 'lstm-leyer'\ndid you mean 'lstm-layer'"):
        describe("lstm-leyer")
