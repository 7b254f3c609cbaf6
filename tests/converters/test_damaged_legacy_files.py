"""Damaged files of nnet1 and nnet2: one clear error or a valid network, and never much memory."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator

import pytest

from nnet.converters.nnet1.model import nnet1_bytes
from nnet.converters.nnet2.model import Nnet2Model, nnet2_bytes
from nnet.converters.sources import Source, read_source
from nnet.errors import NnetError
from tests.support import GOLDEN

SMALL = [
    "nnet1/average_pooling/final.nnet",
    "nnet1/block_softmax/final.nnet",
    "nnet1/copy_dropout/final.nnet",
    "nnet1/copy_dropout/final.txt",
    "nnet1/frame_pooling/final.nnet",
    "nnet1/multi_basis/final.nnet",
    "nnet1/parallel/final.nnet",
    "nnet1/rbm/final.nnet",
    "nnet1/recurrent/final.nnet",
    "nnet1/sentence_averaging/final.nnet",
    "nnet2/block_affine/final.raw",
    "nnet2/convolution_1d_appended/final.raw",
    "nnet2/dct/final.raw",
    "nnet2/elementwise/final.raw",
    "nnet2/elementwise/final.txt",
    "nnet2/fixed/final.raw",
    "nnet2/splice_max/final.raw",
]
ENOUGH = 8_000_000


def survives(data: bytes, form: str) -> None:
    """Reads and writes `data`, if it is a network at all."""
    try:
        source = read_source(data, form)
    except NnetError:
        return
    assert isinstance(source, Source)
    for binary in (True, False):
        if form == "nnet1":
            nnet1_bytes(source.components, binary=binary)
        else:
            model = Nnet2Model(source.components, source.transition_model, source.priors)
            nnet2_bytes(model, binary=binary)


@pytest.fixture
def little_memory() -> Iterator[None]:
    survives((GOLDEN / "legacy" / SMALL[0]).read_bytes(), "nnet1")  # loads the component types
    survives((GOLDEN / "legacy" / SMALL[-1]).read_bytes(), "nnet2")
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ENOUGH


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", SMALL)
def test_truncated_at_every_byte(name: str) -> None:
    data = (GOLDEN / "legacy" / name).read_bytes()
    whole = len(data.rstrip())
    for size in range(whole):
        with pytest.raises(NnetError, match=r"byte \d+"):
            read_source(data[:size], name[:5])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", SMALL)
def test_every_byte_flipped(name: str) -> None:
    data = (GOLDEN / "legacy" / name).read_bytes()
    for place, byte in enumerate(data):
        for mask in (1 << place % 8, 0xFF):
            survives(data[:place] + bytes([byte ^ mask]) + data[place + 1 :], name[:5])


@pytest.mark.usefixtures("little_memory")
def test_damaged_acoustic_models() -> None:
    data = (GOLDEN / "legacy/mdl/nnet2.mdl").read_bytes()
    for place in range(0, len(data), 7):
        with pytest.raises(NnetError):
            read_source(data[:place], "nnet2")
        survives(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :], "nnet2")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: expected a model of nnet1, nnet2 or nnet3, found the end of the file"),
        (b"hello", "byte 0: expected a model of nnet1, nnet2 or nnet3, found 'hello'"),
        (b"<Nnet> </Nnet> ", "byte 7: expected a component"),
        (b"<Nnet> <Sigmoyd> 3 3 </Nnet> ", "found '<Sigmoyd>'; did you mean Sigmoid?"),
        (b"<Nnet> <Sigmoid> 3 -3 </Nnet> ", "byte 19: expected the number of columns read"),
        (b"<Nnet> <Sigmoid> 2147483647 3 ", "expected the number of columns made"),
        (b"<Nnet> <Sigmoid> 3 4 </Nnet> ", "byte 7: Sigmoid: output-dim (=3) must be input-dim"),
        (b"<Nnet> <Tanh> 3 3 <Tanh> 4 4 </Nnet>", "a component that reads 3 columns"),
        (b"<Nnet> <Splice> 6 3 [ 0 1 2 ] </Nnet>", "3 frames of 3 columns do not make"),
        (b"<Nnet> <AddShift> 2 2 [ 1 2 3 ] </Nnet>", "values is 3, expected 2"),
        (b"<Nnet> " + b"<ParallelComponent> 1 1 <NestedNnetCount> 1 <NestedNnet> 1 <Nnet> " * 99,
         "expected networks nested 10 deep at most"),
        (b"<Nnet> <NumComponents> 2147483647 <Components> ", "expected the number of components"),
        (b"<Nnet> <NumComponents> 1 <Components> <SigmoydComponent> ", "did you mean Sigmoid"),
        (b"<Nnet> <NumComponents> 1 <Components> <SpliceComponent> <InputDim> 3 "
         b"<LeftContext> 2147483647 <RightContext> 1 <ConstComponentDim> 0 </SpliceComponent> ",
         "byte 38: SpliceComponent: context (=) must be increasing"),
    ],
)  # fmt: skip
def test_messages(data: bytes, message: str) -> None:
    with pytest.raises(NnetError, match=re.escape(message)):
        read_source(data)
