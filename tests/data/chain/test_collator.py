"""Minibatches for LF-MMI from features and alignments are those of the same examples."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.data.batches import Batch, Sampling, Selection, Shape, epoch_batches
from nnet.data.chain.collator import ChainCollator
from nnet.data.chain.folder import ChainGraphs
from nnet.data.chain.minibatch import ChainTargets, chain_targets
from nnet.data.chain.supervision import Tolerance
from nnet.data.chain.supervisor import Supervisor
from nnet.data.chunks import Chunk
from nnet.data.corpus import Corpus, Sources, load_corpus
from nnet.data.phone_alignments import PhoneAlignment, PhoneAlignmentWriter, read_phone_alignment
from nnet.data.writers import MatrixWriter
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import chain_output, merge_chain_outputs
from nnet.modelfile.fst import read_fst_file
from nnet.modelfile.loading import open_file
from nnet.modelfile.transitions import read_transition_model
from nnet.modelfile.trees import read_tree
from nnet.plan.request import Request, TimeRange
from tests.support import GOLDEN

CHAIN = GOLDEN / "training/chain"


def request(shape: Shape) -> Request:
    frames = shape[0]
    return Request.of(
        {"input": TimeRange(-2, frames + 4)}, {"output": TimeRange(0, frames // 3, 3)}
    )


@pytest.fixture(scope="module")
def supervisor() -> Supervisor:
    graphs = ChainGraphs(
        read_tree(open_file(CHAIN / "tree")),
        read_transition_model(open_file(CHAIN / "mono.mdl")),
        *(read_fst_file(CHAIN / f"{n}.fst") for n in ("phone_lm", "den", "normalization")),
    )
    return Supervisor(graphs, Tolerance(5, 5, 3))


def corpus_of(folder: Path, alignments: dict[str, PhoneAlignment]) -> Corpus:
    """Row t of each utterance holds t."""
    with (
        MatrixWriter(f"ark:{folder}/feats.ark") as feats,
        PhoneAlignmentWriter(f"ark:{folder}/phones.ark") as phones,
    ):
        for name, alignment in alignments.items():
            feats.write(name, np.arange(len(alignment), dtype=np.float32)[:, None])
            phones.write(name, alignment)
    return load_corpus(
        Sources(
            feats=f"ark:{folder}/feats.ark",
            targets=f"ark:{folder}/phones.ark",
            feature_dim=1,
            output_dim=8,
            subsampling=3,
            read_target=read_phone_alignment,
        )
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    from nnet.data.tables import read_table

    return corpus_of(
        tmp_path, dict(read_table(f"ark:{CHAIN / 'phones_lengths.txt'}", read_phone_alignment))
    )


def selections(shift: int = 0) -> Batch:
    weights = np.ones(10, np.float32)
    half = np.linspace(0, 1, 10, dtype=np.float32)
    return (
        Selection(0, Chunk(30, 30, weights), 40, shift),
        Selection(3, Chunk(0, 30, half), 5, shift),
        Selection(5, Chunk(57, 30, weights), 60, shift),
    )


def test_targets_are_those_of_merged_examples(corpus: Corpus, supervisor: Supervisor) -> None:
    batch = selections()
    minibatch = ChainCollator(corpus, supervisor, request)(batch)
    outputs = [
        chain_output(
            "output",
            supervisor.supervision(corpus.load(each.utterance), each.chunk),
            each.chunk.weights,
            3,
        )
        for each in batch
    ]
    expected, found = chain_targets(merge_chain_outputs(outputs)), minibatch.targets["output"]
    assert isinstance(found, ChainTargets)
    assert (found.sequences, found.frames) == (3, 10)
    assert found.deriv_weights is not None
    assert torch.equal(found.deriv_weights[:, 1], torch.from_numpy(batch[1].chunk.weights))
    for name in ("sources", "targets", "positions", "weights", "final"):
        assert torch.equal(getattr(found.graphs, name), getattr(expected.graphs, name))


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_features_are_taken_where_the_chunk_lies_or_beside_it(
    corpus: Corpus, supervisor: Supervisor, shift: int
) -> None:
    minibatch = ChainCollator(corpus, supervisor, request)(selections(shift))
    rows = minibatch.inputs["input"][..., 0]
    assert rows.shape == (3, 34)
    assert rows[0].tolist() == list(range(28 + shift, 62 + shift))
    assert rows[1].tolist() == [max(0, t) for t in range(-2 + shift, 32 + shift)]


def test_shifts_are_drawn_for_each_chunk() -> None:
    lengths = np.array([300, 200, 250])
    sampling = Sampling((30,), 4, 3, seed=1, largest_shift=1)
    batches = epoch_batches(sampling, lengths, 0)
    shifts = [selection.shift for batch in batches for selection in batch]
    assert set(shifts) == {-1, 0, 1}
    unmoved = epoch_batches(Sampling((30,), 4, 3, seed=1), lengths, 0)
    assert {selection.shift for batch in unmoved for selection in batch} == {0}


def test_a_chunk_without_supervision_is_left_out(
    tmp_path: Path, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    def alignment(phones: list[int]) -> PhoneAlignment:
        return PhoneAlignment(np.array(phones), np.full(len(phones), 8))

    seen, unseen = alignment([1, 4, 2, 1, 4, 2, 3]), alignment([1, 3, 4, 2, 1, 3, 2])
    corpus = corpus_of(tmp_path, {"seen": seen, "unseen": unseen})
    collate = ChainCollator(corpus, supervisor, request)
    chunk = Chunk(0, 30, np.ones(10, np.float32))
    with caplog.at_level(logging.WARNING):
        minibatch = collate((Selection(0, chunk, 0), Selection(1, chunk, 0)))
    assert minibatch.sequences == 1
    assert minibatch.utterances == ("seen",)
    assert "utterance 'unseen': the normalization graph accepts nothing" in caplog.text
    with pytest.raises(NnetError, match="no chunk of a minibatch has a supervision"):
        collate((Selection(1, chunk, 0),))
