"""Which requests are cut into tiles."""

import pytest
import torch

from nnet.graph.context import context
from nnet.runtime import tiled_run
from nnet.runtime.compiled import compile_network
from nnet.runtime.tiles import TILE_BYTES, Tiling
from tests.support import golden_network, network_from

FEED_FORWARD = """
input-node name=input dim=4000
component name=a type=LinearComponent input-dim=4000 output-dim=4000
component-node name=a component=a input=input
output-node name=output input=a
"""
RECURRENT = FEED_FORWARD.replace("input=input\n", "input=Sum(input, IfDefined(Offset(a, -1)))\n")


@pytest.mark.parametrize(("text", "cut"), [(FEED_FORWARD, True), (RECURRENT, False)])
def test_recurrent_plans_are_not_cut(text: str, cut: bool) -> None:
    network = network_from(text)
    module = compile_network(network)
    request = module.chunk_request(100)
    batch = 3 * TILE_BYTES // (4 * 4000 * 100)
    tiles = list(Tiling.of(module.plan, *context(network)).tiles(request, batch))
    assert (len(tiles) > 1) == cut
    assert [t.batch.start for t in tiles[1:]] == [t.batch.stop for t in tiles[:-1]]
    assert tiles[-1].batch.stop == batch


def test_threads_work_on_tiles_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_run, "RECOMPUTED", 9.0)
    module = compile_network(
        golden_network("nets/tdnnf"), test_mode=True, outputs=("output",)
    ).double()
    threads = torch.get_num_threads()
    for batch in (1, 5):
        request = module.chunk_request(60, subsampling=3)
        inputs = {
            node.name: torch.randn(batch, dict(request.inputs)[node.name].count, node.dim).double()
            for node in module.network.inputs()
        }
        with torch.no_grad():
            torch.set_num_threads(1)
            expected = module(inputs, request)["output"]
            torch.set_num_threads(2)
            try:
                assert module._tiled.tiles(request, batch, 2)[1]
                result = module(inputs, request)["output"]
                assert torch.get_num_threads() == 2
            finally:
                torch.set_num_threads(threads)
        torch.testing.assert_close(result, expected)
