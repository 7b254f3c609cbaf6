"""Requests of few frames are computed, or refused with a reason."""

from __future__ import annotations

import pytest
import torch

from nnet.errors import NnetError
from nnet.runtime.compiled import compile_network
from tests.support import golden_network


@pytest.mark.parametrize("frames", range(1, 5))
@pytest.mark.parametrize("test_mode", [True, False])
def test_a_request_without_frames_to_pool_is_refused(frames: int, test_mode: bool) -> None:
    module = compile_network(golden_network("nets/xvector"), test_mode=test_mode).eval()
    request = module.chunk_request(frames)
    rows = dict(request.inputs)["input"].count
    with pytest.raises(NnetError, match=r"cannot be computed at t = .*; give more frames at once"):
        module({"input": torch.zeros(1, rows, 13)}, request)


@pytest.mark.parametrize("frames", range(5, 9))
def test_a_request_with_frames_to_pool_is_computed(frames: int) -> None:
    module = compile_network(golden_network("nets/xvector"), test_mode=True).eval()
    request = module.chunk_request(frames)
    rows = dict(request.inputs)["input"].count
    made = module({"input": torch.zeros(1, rows, 13)}, request)["output"]
    assert made.shape == (1, frames, 6)
    assert made.isfinite().all()
