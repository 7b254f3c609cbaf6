"""Damaged files: a clean error or a valid model, and never much memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnet.errors import NnetError
from nnet.modelfile.model import model_bytes, read_model

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = [
    "components/noop/init.raw",
    "components/noop/init.txt",
    "components/batchnorm/trained.raw",
    "components/batchnorm/trained.txt",
    "components/descriptor_append_offset/init.raw",
    "components/permute/init.raw",
    "components/sum_group/init.txt",
    "components/general_dropout_test/init.raw",
    "components/fixed_scale/init.txt",
]
ENOUGH = 8_000_000


def survives(data: bytes) -> None:
    """Reads, prints and writes `data`, if it is a model at all."""
    try:
        model = read_model(data)
        model_bytes(model)
        model_bytes(model, binary=False)
        model.info()
    except NnetError:
        pass


@pytest.fixture
def little_memory() -> Iterator[None]:
    survives((GOLDEN / "components/noop/init.raw").read_bytes())  # loads the grammar
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ENOUGH


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", SMALL)
def test_truncated_at_every_byte(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    for size in range(len(data) - 1):
        with pytest.raises(NnetError):
            read_model(data[:size])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", SMALL)
def test_every_byte_flipped(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    for place, byte in enumerate(data):
        for mask in (1 << place % 8, 0xFF):
            survives(data[:place] + bytes([byte ^ mask]) + data[place + 1 :])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", ["nnet3_chain.mdl", "nnet3_chain_mdl.txt"])
def test_damaged_transition_models(name: str) -> None:
    data = (GOLDEN / "legacy/mdl" / name).read_bytes()
    end = data.index(b"<Nnet3>")
    for place in range(end):
        with pytest.raises(NnetError):
            read_model(data[:place])
        survives(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])


def model(nodes: str, components: bytes = b"<NumComponents> 0 ") -> bytes:
    return f"<Nnet3> \n{nodes}\n\n".encode() + components + b"</Nnet3> "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected <Nnet3> or <TransitionModel> at the beginning of a model, found the end"),
        (b"<Nnet> <NumComponents> 3", "expected <Nnet3> or <TransitionModel>"),
        (b"\0B<Nnet3> junk\n", "expected a line end after <Nnet3>, found 'junk'"),
        (b"<Nnet3> \n\xff\xfe\n\n", "byte 9: expected text in UTF-8"),
        (model("input-node name=input dim=3"), "the network has no output-node"),
        (model("input-node name=input dim=x"), "<bytes> (nodes):1:27: wrong value 'x' for 'dim'"),
        (model("component name=a type=NoOpComponent dim=3"), "a component line in the config"),
        (model("", b"<NumComponents> 2147483647 "), "expected the number of components"),
        (model("", b"<NumComponents> 1 <ComponentName> a <NopComponent> "), "did you mean NoOp"),
        (
            model("", b"<NumComponents> 1 <ComponentName> a <NoOpComponent> <Dim> 3 <Skale> "),
            "expected </NoOpComponent> or <NoOpComponent>, found '<Skale>'",
        ),
        (
            model("", b"<NumComponents> 1 <ComponentName> a <SigmoidComponent> <Dim> 3 <X> "),
            "expected <BlockDim> or <ValueAvg>, found '<X>'",
        ),
        (
            model("", b"<NumComponents> 1 <ComponentName> a <NoOpComponent> <Dim> -3 "
                  b"<BackpropScale> 1 </NoOpComponent> "),
            "NoOpComponent: dim (=-3) must be positive",
        ),
        (
            model("", b"<NumComponents> 2 " + 2 * (b"<ComponentName> a <NoOpComponent> <Dim> 3 "
                  b"<BackpropScale> 1 </NoOpComponent> ")),
            "expected component names that differ, found a second component 'a'",
        ),
        (model(f"output-node name=o input={'Offset(' * 9999}"), "nested more than 100 deep"),
    ],
)  # fmt: skip
def test_messages(data: bytes, message: str) -> None:
    with pytest.raises(NnetError) as caught:
        read_model(data)
    assert message in str(caught.value)


def test_an_nnet2_model_is_named() -> None:
    with pytest.raises(
        NnetError, match="this is an acoustic model of nnet2; make one of nnet3: nnet convert"
    ):
        read_model(GOLDEN / "legacy/mdl/nnet2.mdl")
