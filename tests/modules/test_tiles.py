"""Which requests are cut into tiles."""

import pytest

from nnet.graph.context import context
from nnet.modules.compiled import compile_network
from nnet.modules.tiles import TILE_BYTES, Tiling
from tests.support import network_from

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
