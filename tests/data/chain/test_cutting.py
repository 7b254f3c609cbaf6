"""Examples for LF-MMI made from features with alignments or transcripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.data.chain.cutting import ChainExampleCutter, EndToEndCutter, Transcribed
from nnet.data.chain.expansion import expanded
from nnet.data.chain.folder import ChainGraphs
from nnet.data.chain.supervision import Tolerance
from nnet.data.chain.supervisor import Supervisor
from nnet.data.chain.transcripts import IvectorTable, read_fsts, transcribed
from nnet.data.corpus import Sources, load_corpus
from nnet.data.cutting import Context
from nnet.data.examples import read_objects
from nnet.data.phone_alignments import read_phone_alignment
from nnet.data.tables import read_matrices
from nnet.errors import NnetError
from nnet.fst.states import linear_acceptor
from nnet.modelfile.chain_examples import ChainExample, read_chain_example
from tests.acceptors import difference, path_difference
from tests.support import GOLDEN

CHAIN, END_TO_END = GOLDEN / "training/chain", GOLDEN / "training/chain_e2e"


@pytest.fixture
def graphs_folder(tmp_path: Path) -> Path:
    """What nnet chain-prepare makes, with Kaldi's own files."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    for name in ("tree", "phone_lm.fst", "den.fst", "normalization.fst"):
        (folder / name).write_bytes((CHAIN / name).read_bytes())
    (folder / "0.trans_mdl").write_bytes((CHAIN / "mono.mdl").read_bytes())
    return folder


@pytest.fixture
def graphs(graphs_folder: Path) -> ChainGraphs:
    return ChainGraphs.read(graphs_folder)


def sources(**changes: object) -> Sources:
    given: dict = {
        "feats": f"ark:{CHAIN / 'feats.ark'}",
        "targets": f"ark:{CHAIN / 'phones_lengths.txt'}",
        "feature_dim": 13,
        "output_dim": 8,
        "online_ivectors": f"ark:{CHAIN / 'ivectors.ark'}",
        "ivector_dim": 6,
        "subsampling": 3,
        "read_target": read_phone_alignment,
    }
    return Sources(**(given | changes))


def kaldis_examples(folder: Path) -> dict[str, ChainExample]:
    return dict(read_objects(f"ark:{folder / 'cegs_unmerged.ark'}", read_chain_example))


def cutter(graphs: ChainGraphs, widths: tuple[int, ...], seed: int = 0) -> ChainExampleCutter:
    supervisor = Supervisor(graphs, Tolerance(5, 5, 3))
    return ChainExampleCutter(load_corpus(sources()), supervisor, widths, Context(5, 5), seed)


def test_chunks_at_the_same_place_are_kaldis_examples(graphs: ChainGraphs) -> None:
    theirs = kaldis_examples(CHAIN)
    compared = 0
    for seed in range(3):
        for key, ours in cutter(graphs, (30, 24), seed).examples():
            expected = theirs.get(key)
            if expected is None or expected.inputs[0].indexes.shape != ours.inputs[0].indexes.shape:
                continue
            compared += 1
            assert [io.name for io in ours.inputs] == [io.name for io in expected.inputs]
            assert (ours.inputs[0].indexes == expected.inputs[0].indexes).all()
            rows, their_rows = (example.inputs[0].features.dense() for example in (ours, expected))
            assert np.abs(rows - their_rows).max() < 0.05  # theirs were compressed
            mine, other = ours.outputs[0], expected.outputs[0]
            assert (mine.indexes == other.indexes).all()
            fsts = (mine.supervision.fsts[0], other.supervision.fsts[0])
            assert path_difference(*fsts) < 1e-4
    assert compared > 30


def test_overlapping_chunks_share_the_weight_of_each_frame(graphs: ChainGraphs) -> None:
    corpus = load_corpus(sources())
    totals = {name: np.zeros(200) for name in corpus.names}
    for key, example in cutter(graphs, (45, 36)).examples():
        name, start = key.rsplit("-", 1)
        weights = example.outputs[0].deriv_weights
        first = int(start) // 3
        totals[name][first : first + len(weights)] += weights
    for total in totals.values():
        assert set(np.round(total, 5)) <= {0.0, 1.0}


def test_short_utterances_are_counted(graphs: ChainGraphs) -> None:
    made = cutter(graphs, (120,))
    short = sum(length < 118 for length in load_corpus(sources()).lengths)
    keys = [key for key, _ in made.examples()]
    assert made.left_out == short
    assert len({key.rsplit("-", 1)[0] for key in keys}) == 20 - short


def test_a_chunk_longer_than_its_utterance_continues_its_last_phone(graphs: ChainGraphs) -> None:
    corpus = load_corpus(sources())
    supervisor = Supervisor(graphs, Tolerance(5, 5, 3))
    utterance = corpus.load(0)
    from nnet.data.chunks import ChunkSplitter

    (chunk,) = ChunkSplitter((1000,), 3).random_chunks(
        len(utterance.features), np.random.default_rng(0)
    )
    supervision = supervisor.supervision(utterance, chunk)
    assert supervision.frames == chunk.frames // 3 > -(-len(utterance.features) // 3)


def transcribed_utterances(graphs: ChainGraphs, targets: Path, *, are_graphs: bool):
    return transcribed(
        f"ark:{END_TO_END / 'feats.ark'}",
        f"ark:{targets}",
        IvectorTable(f"ark:{END_TO_END / 'ivectors.ark'}", 10),
        graphs.hmms,
        are_graphs=are_graphs,
    )


@pytest.mark.parametrize("kind", ["graphs", "transcripts"])
def test_kaldis_end_to_end_examples(graphs: ChainGraphs, kind: str) -> None:
    targets = END_TO_END / ("graphs.ark" if kind == "graphs" else "phones.txt")
    utterances = transcribed_utterances(graphs, targets, are_graphs=kind == "graphs")
    made = EndToEndCutter(utterances, graphs, (90,), Context(5, 5), 3, seed=0)
    theirs = kaldis_examples(END_TO_END)
    found = dict(made.examples())
    assert list(found) == list(theirs)
    for name, ours in found.items():
        expected = theirs[name]
        assert (ours.inputs[0].indexes == expected.inputs[0].indexes).all()
        rows, their_rows = (example.inputs[0].features.dense() for example in (ours, expected))
        assert (rows == their_rows).all()
        mine, other = ours.outputs[0], expected.outputs[0]
        assert (mine.deriv_weights == other.deriv_weights).all()
        assert difference(mine.supervision.fsts[0], other.supervision.fsts[0]) == 0.0


@pytest.mark.parametrize(
    ("frames", "lengths", "expected"), [(90, (), 96), (90, (85, 92), 92), (90, (86,), 86)]
)
def test_lengths_of_end_to_end_examples(
    graphs: ChainGraphs, frames: int, lengths: tuple[int, ...], expected: int
) -> None:
    graph = expanded(linear_acceptor([1, 2, 4]), graphs.hmms, 0.0)
    speech = Transcribed("a", np.zeros((frames, 2), np.float32), graph)
    ((_, example),) = EndToEndCutter([speech], graphs, lengths, Context(), 3, 0).examples()
    assert len(example.inputs[0].indexes) == expected
    assert example.outputs[0].supervision.frames == -(-expected // 3)


def test_an_utterance_of_no_allowed_length_is_left_out(graphs: ChainGraphs) -> None:
    graph = expanded(linear_acceptor([1, 2]), graphs.hmms, 0.0)
    made = EndToEndCutter(
        [Transcribed("a", np.zeros((90, 2), np.float32), graph)], graphs, (85, 95), Context(), 3, 0
    )
    assert list(made.examples()) == []
    assert made.left_out == 1


def test_a_table_of_fsts_is_read() -> None:
    found = dict(read_fsts(f"ark:{END_TO_END / 'graphs.ark'}"))
    names = [name for name, _ in read_matrices(f"ark:{END_TO_END / 'feats.ark'}")]
    assert list(found) == names
    with pytest.raises(NnetError, match=r"phones.txt: byte 6: expected an FST"):
        dict(read_fsts(f"ark:{END_TO_END / 'phones.txt'}"))


def nnet(*words: object) -> int:
    """Runs a command; its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(str(end.value.code))


def test_the_command_writes_examples(
    graphs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    egs = tmp_path / "cegs.ark"
    options = ("--num-frames", "30,24", "--left-context", 5, "--right-context", 5)
    tables = (f"ark:{CHAIN / 'feats.ark'}", f"ark:{CHAIN / 'phones_lengths.txt'}", f"ark:{egs}")
    assert nnet("chain-get-egs", graphs_folder, *tables, *options) == 0
    examples = list(read_objects(f"ark:{egs}", read_chain_example))
    assert capsys.readouterr().err == f"nnet chain-get-egs: wrote {len(examples)} examples\n"


@pytest.mark.parametrize("kind", ["--transcripts", "--graphs"])
def test_the_command_writes_end_to_end_examples(
    graphs_folder: Path, tmp_path: Path, kind: str
) -> None:
    egs = tmp_path / "cegs.ark"
    targets = END_TO_END / ("graphs.ark" if kind == "--graphs" else "phones.txt")
    tables = (f"ark:{END_TO_END / 'feats.ark'}", f"ark:{targets}", f"ark:{egs}")
    assert nnet("chain-get-egs", graphs_folder, *tables, kind, "--num-frames", 90) == 0
    examples = list(read_objects(f"ark:{egs}", read_chain_example))
    assert len(examples) == 12
    assert all(example.outputs[0].supervision.end_to_end for _, example in examples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--graphs", "--transcripts"], "at most one of --transcripts and --graphs"),
        (["--left-tolerance", "-1"], "--left-tolerance=-1"),
        (["--num-frames", "x"], "--num-frames is 'x'"),
        (["--frame-subsampling-factor", "0"], "--frame-subsampling-factor is 0"),
    ],
)
def test_mistakes_are_named(
    graphs_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    tables = (f"ark:{CHAIN / 'feats.ark'}", f"ark:{CHAIN / 'phones_lengths.txt'}", "ark:/dev/null")
    assert nnet("chain-get-egs", graphs_folder, *tables, *words) == 1
    assert message in capsys.readouterr().err


def test_a_folder_without_graphs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nnet("chain-get-egs", tmp_path, "ark:a", "ark:b", "ark:c") == 1
    assert "has no tree and no 0.trans_mdl" in capsys.readouterr().err
