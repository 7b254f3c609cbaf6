"""Plans of golden networks look as they did; `pytest --update-golden` writes them anew."""

from pathlib import Path

import pytest

from nnet.graph.context import context
from nnet.passes.base import run_passes
from nnet.passes.pipeline import TEST, TRAINING
from nnet.plan.dump import dump
from nnet.plan.layout import bind
from nnet.plan.lower import lower
from nnet.plan.request import chunk_request
from tests.support import golden_network

DUMPS = Path(__file__).parent / "dumps"
PIPELINES = {"test": TEST, "training": TRAINING}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("net", ["tdnnf", "tdnnf_lda", "tdnn_renorm", "trivial"])
def test_dump(net, pipeline, update_golden):
    network = golden_network(f"nets/{net}")
    left, right = context(network)
    plan = run_passes(lower(network, ["output"]), PIPELINES[pipeline])
    request = chunk_request(
        network,
        30,
        left_context=left,
        right_context=right,
        subsampling=3 if net.startswith("tdnnf") else 1,
        outputs=("output",),
    )
    text = dump(plan, bind(plan, request, exact=pipeline == "training")) + "\n"
    path = DUMPS / f"{net}.{pipeline}.txt"
    if update_golden:
        path.write_text(text)
    assert path.exists(), f"{path} is missing; run pytest --update-golden and look at it"
    assert text == path.read_text()
