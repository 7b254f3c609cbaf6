"""What a file is, where something else is wanted."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nnet.components.reshape import Permute
from nnet.converters.nnet1.model import parse_nnet1
from nnet.converters.sources import read_source
from nnet.data.tables import read_matrices
from nnet.errors import NnetError
from nnet.modelfile.component import read_component
from nnet.modelfile.kinds import kind_of
from nnet.modelfile.loading import open_bytes
from nnet.modelfile.model import read_model
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.trees import read_tree

GOLDEN = Path(__file__).parents[1] / "golden"
GMM = GOLDEN / "faults/kinds/gmm.mdl"
RAW = GOLDEN / "components/affine/init.raw"

KINDS = {
    "a gzip file": gzip.compress(b"hello"),
    "a wave file": b"RIFF\x24\0\0\0WAVEfmt ",
    "an FST of OpenFst": (GOLDEN / "training/chain/den.fst").read_bytes(),
    "a GMM acoustic model (<DIMENSION>, <DiagGMM>), not a neural network": GMM.read_bytes(),
    "an acoustic model of nnet2": (GOLDEN / "legacy/mdl/nnet2.mdl").read_bytes(),
    "an acoustic model of nnet3": (GOLDEN / "legacy/mdl/nnet3.mdl").read_bytes(),
    "a network of nnet3": RAW.read_bytes(),
    "a network of nnet1 or nnet2": (GOLDEN / "legacy/nnet1/rbm/final.nnet").read_bytes(),
    "a tree": (GOLDEN / "legacy/mdl/tree").read_bytes(),
    "a topology": (GOLDEN / "legacy/mdl/topo").read_bytes(),
    "a matrix or vector": b"\0BFM \4\1\0\0\0\4\1\0\0\0\0\0\0\0",
    "a table of Kaldi": (GOLDEN / "components/affine/feats.ark").read_bytes(),
    "a script file": b"utt1 feats.ark:5\nutt2 feats.ark:99\n",
    "an ONNX file": b"\x08\x08\x12\x04nnet:\x94",
    "a checkpoint": b'\x90\1\0\0\0\0\0\0{"__metadata__":{}}',
    "an xconfig or config": b"# a network\ninput dim=40 name=input\n",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_recognised(name: str) -> None:
    kind = kind_of(KINDS[name])
    assert kind is not None
    assert kind.name.startswith(name)


@pytest.mark.parametrize("name", [name for name in KINDS if "nnet3" not in name])
def test_another_kind_in_the_place_of_a_model_is_named(name: str) -> None:
    with pytest.raises(NnetError) as caught:
        read_model(KINDS[name])
    assert f"this is {name}" in str(caught.value)


@pytest.mark.parametrize("read", [read_transition_model, read_tree])
def test_a_model_in_the_place_of_a_transition_model_or_tree_is_named(read) -> None:
    with pytest.raises(NnetError, match="this is a network of nnet3"):
        read(open_bytes(RAW.read_bytes(), "x"))


def test_another_kind_in_the_place_of_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(KINDS["a wave file"])
    with pytest.raises(NnetError, match="this is a wave file"):
        list(read_matrices(f"ark:{tmp_path}/a.ark"))


def test_convert_names_a_gmm() -> None:
    with pytest.raises(NnetError, match="this is a GMM acoustic model"):
        read_source(GMM)


def test_an_old_permute_component_holds_floats() -> None:
    vector = np.array([2, 0, 1], "<f4").tobytes()
    data = b"\0B<PermuteComponent> <ColumnMap> FV \4\3\0\0\0" + vector + b"</PermuteComponent> "
    component = read_component(open_bytes(data, "old"))
    assert isinstance(component, Permute)
    assert component.column_map == (2, 0, 1)
    with pytest.raises(NnetError, match="expected a vector of integers"):
        read_component(open_bytes(data.replace(vector, vector[:-1] + b"\7"), "old"))


def test_an_old_nnet1_network_may_lack_its_end() -> None:
    data = b"<Nnet> <Sigmoid> 3 3 <Softmax> 3 3 "
    assert len(parse_nnet1(open_bytes(data, "old"))) == 2
    with pytest.raises(NnetError, match="expected a component type, found the end"):
        parse_nnet1(open_bytes(b"<Nnet> <Sigmoid> 3 3 <!EndOfComponent> <Softmax> 3 3 ", "new"))
