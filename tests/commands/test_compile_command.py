"""`nnet compile`, and the options that say how a network is carried out."""

import re

import pytest

from nnet.commands.compile import compile
from nnet.commands.compute import compute
from nnet.errors import NnetError
from nnet.inference.options import ChunkOptions, VectorOptions
from tests.support import GOLDEN

MODEL = str(GOLDEN / "nets" / "tdnnf" / "init.raw")
FEATURES = f"ark:{GOLDEN / 'nets' / 'tdnnf' / 'feats.ark'}"


def lines_of(text: str, what: str) -> list[str]:
    plan = text.partition("--- plan for")[2]
    return [line for line in plan.splitlines() if what in line]


def test_each_operation_has_a_cost_a_bound_and_an_implementation(capsys):
    compile(MODEL, training=True, frames=60, frame_subsampling_factor=3)
    affine = lines_of(capsys.readouterr().out, " affine tdnnf2.linear")
    assert len(affine) == 1
    assert re.search(
        r"[\d.]+ MFLOP +[\d.]+ MB  (arithmetic|memory|launch) +reference \(", affine[0]
    )


def test_our_kernels_are_planned_for_a_gpu(capsys):
    compile(MODEL, training=True, frames=150, batch=64, machine="sm_90")
    printed = capsys.readouterr().out
    assert all(line.endswith("triton") for line in lines_of(printed, " affine tdnnf2.affine"))
    assert not lines_of(printed, " append %17")
    assert re.search(r"by the cost model [\d.]+ ms on sm_90, \d+ x real time", printed)


def test_plain_torch_can_be_asked_for(capsys):
    compile(MODEL, training=True, machine="sm_90", kernels="reference")
    assert "triton" not in capsys.readouterr().out


def test_an_unknown_machine():
    with pytest.raises(
        NnetError, match="unknown machine 'sm_70', expected one of cpu, sm_80, sm_90"
    ):
        compile(MODEL, machine="sm_70")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernels": "trition"},
            "kernels are 'trition', expected one of auto, reference, native, triton",
        ),
        ({"cuda_graph": True}, "a CUDA graph needs a CUDA device, and torch sees none here"),
    ],
)
def test_what_compute_cannot_do_is_said_before_anything_is_written(options, message, tmp_path):
    out = tmp_path / "out.ark"
    with pytest.raises(NnetError, match=message):
        compute(MODEL, FEATURES, f"ark:{out}", ChunkOptions(), VectorOptions(), **options)
    assert not out.exists()
