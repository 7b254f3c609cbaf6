"""The recipes for LF-MMI, trained on golden alignments with features made for each recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nnet
from nnet.data.phone_alignments import read_phone_alignment
from nnet.data.tables import read_table
from nnet.data.writers import MatrixWriter
from nnet.graph.dims import node_dim
from nnet.graph.network import Network
from nnet.modelfile.model import Model
from nnet.training.feeds.tables import Tables
from nnet.training.lfmmi.options import ChainOptions
from nnet.training.options import TrainingOptions
from nnet.training.session import train
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"
CONFIGS = Path(__file__).parents[2] / "configs"
PDFS = 8
UTTERANCES = 3


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """What nnet chain-prepare makes, with Kaldi's own files."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    for name in ("tree", "phone_lm.fst", "den.fst", "normalization.fst"):
        (folder / name).write_bytes((CHAIN / name).read_bytes())
    (folder / "0.trans_mdl").write_bytes((CHAIN / "mono.mdl").read_bytes())
    return folder


@pytest.fixture
def tables(tmp_path: Path) -> Callable[[Network], Tables]:
    """Makes features that tell phones apart, of the dimensions that a network wants."""

    def make(network: Network) -> Tables:
        random = np.random.default_rng(0)
        phones = random.standard_normal((5, node_dim(network, "input")))
        alignments = list(read_table(f"ark:{CHAIN / 'phones_lengths.txt'}", read_phone_alignment))
        with_ivectors = "ivector" in network.nodes
        with (
            MatrixWriter(f"ark:{tmp_path}/feats.ark") as feats,
            MatrixWriter(f"ark:{tmp_path}/ivectors.ark") as ivectors,
        ):
            for name, alignment in alignments[:UTTERANCES]:
                rows = phones[np.repeat(alignment.phones, alignment.durations)]
                rows = rows + 0.3 * random.standard_normal(rows.shape)
                feats.write(name, rows.astype(np.float32))
                if with_ivectors:
                    dim = node_dim(network, "ivector")
                    ivectors.write(name, random.standard_normal((1, dim)).astype(np.float32))
        return Tables(
            feats=f"ark:{tmp_path}/feats.ark",
            targets=f"ark:{CHAIN / 'phones_lengths.txt'}",
            ivectors=f"ark:{tmp_path}/ivectors.ark" if with_ivectors else None,
        )

    return make


@pytest.mark.parametrize("name", ["tdnnf_chain_small", "tdnnf_chain", "cnn_tdnnf"])
def test_each_learns(
    name: str, graphs: Path, tables: Callable[[Network], Tables], tmp_path: Path
) -> None:
    path = CONFIGS / f"{name}.xconfig"
    text = re.sub(r"(?m)^(output-layer .*?dim=)\d+", rf"\g<1>{PDFS}", path.read_text())
    network = nnet.build(text, str(path), rng=np.random.default_rng(0))
    options = TrainingOptions(
        num_epochs=3,
        minibatch_size=2,
        chunk_width=(60,),
        frame_subsampling_factor=3,
        optimizer="adamw",
        valid_share=0.0,
        num_threads=1,
        tensorboard=False,
        den_fst=str(graphs / "den.fst"),
        chain=ChainOptions(apply_deriv_weights=True),
    )
    final = train(Model(network), tmp_path / "out", tables(network), options)
    events = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    objectives = [event["objective"] for event in events if event["event"] == "minibatch"]
    assert np.isfinite(objectives).all()
    assert objectives[-1] > objectives[0] + 0.1
    assert node_dim(nnet.load(str(final)).network, "output") == PDFS
