"""`nnet align`: features and texts to the times of words and phones.

Kaldi's nnet3-align-compiled, from features and text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.data.options import (
    FRAME_SUBSAMPLING_FACTOR,
    IVECTORS,
    ONLINE_IVECTOR_PERIOD,
    ONLINE_IVECTORS,
)
from nnet.errors import NnetError
from nnet.options import Option
from nnet.runtime.options import NUM_THREADS

if TYPE_CHECKING:
    from nnet.data.chain.expansion import PhoneHmms
    from nnet.data.matrices import Floats
    from nnet.data.posteriors import Ids
    from nnet.modelfile.model import Model
    from nnet.speech.alignment import Aligner, AlignmentOptions
    from nnet.speech.alignment_files import TimedText
    from nnet.speech.graphs.lang import Lang
    from nnet.speech.lattices.word_alignment import WordFinder
    from nnet.speech.long_alignment import LongAligner

LONG_BEAM, LONG_MAX_ACTIVE = 15.0, 7000
SHORTEST = 10.0
"""Seconds of a piece of a long recording, at least."""


def align(
    model: Annotated[str, Argument(help="Acoustic model, .mdl.")],
    lang: Annotated[Path, Argument(help="Lang folder, or a lexicon file.")],
    feats: Annotated[str, Argument(help="Features, an rspecifier such as scp:feats.scp.")],
    text: Annotated[Path, Argument(help="Lines of an utterance and its words.")],
    out: Annotated[str, Argument(help="Wspecifier: a transition-id a frame, or '' for none.")] = "",
    tree: Annotated[str, Option(help="Tree of the model [`tree` beside it].")] = "",
    ctm: Annotated[str, Option(help="File for times of words.")] = "",
    textgrid: Annotated[str, Option(help="Folder for a TextGrid (Praat) an utterance.")] = "",
    json_file: Annotated[
        str, Option(names=("--json",), help="File for words and phones, JSON.")
    ] = "",
    silence_phones: Annotated[
        str, Option(help="Where LANG is a lexicon: phones outside words, the optional one first.")
    ] = "SIL:SPN",
    long: Annotated[
        bool,
        Option(
            help="Recordings are long: they are recognised with their text as language model, cut "
            "where that is right, and the pieces aligned.",
        ),
    ] = False,
    beam: Annotated[float, Option(help="Beam of the search, in nats.")] = 200.0,
    retry_beam: Annotated[float, Option(help="Beam of a second try; 0: none.")] = 0.0,
    acoustic_scale: Annotated[float, Option(help="Scale of log-likelihoods.")] = 1.0,
    transition_scale: Annotated[float, Option(help="Scale of transitions' costs.")] = 1.0,
    self_loop_scale: Annotated[float, Option(help="Scale of self-loops' costs.")] = 1.0,
    frame_shift: Annotated[float, Option(help="Seconds between frames of features.")] = 0.01,
    frames_per_chunk: Annotated[int, Option(help="Frames per chunk.")] = 50,
    frame_subsampling_factor: Annotated[int, FRAME_SUBSAMPLING_FACTOR] = 1,
    ivectors: Annotated[str, IVECTORS] = "",
    online_ivectors: Annotated[str, ONLINE_IVECTORS] = "",
    online_ivector_period: Annotated[int, ONLINE_IVECTOR_PERIOD] = 0,
    num_threads: Annotated[int, NUM_THREADS] = 0,
) -> None:
    """Finds where the words and phones of known texts are.

    Utterances that cannot be aligned are named with the reason, and left out.

    Example: nnet align exp/final.mdl data/lang scp:feats.scp data/text ark:ali.ark --ctm words.ctm
    """
    from nnet.data.writers import AlignmentWriter
    from nnet.modelfile.model import read_model
    from nnet.speech.alignment import AlignmentOptions
    from nnet.speech.alignment_files import ctm_text, json_object
    from nnet.speech.alignment_files import textgrid as grid
    from nnet.speech.graphs.lang import write_files

    if not (out or ctm or textgrid or json_file):
        raise NnetError("expected: OUT, --ctm, --textgrid or --json, where the alignments go")
    options = AlignmentOptions(beam, retry_beam, acoustic_scale, transition_scale, self_loop_scale)
    loaded = read_model(model)
    hmms = _hmms(loaded, model, tree)
    folder = _lang(lang, model, silence_phones)
    outputs = _outputs(
        loaded, feats, (ivectors, online_ivectors, online_ivector_period),
        frames_per_chunk, frame_subsampling_factor, num_threads,
    )  # fmt: skip
    shift = frame_shift * frame_subsampling_factor
    found: list[TimedText] = []
    with ExitStack() as stack:
        writer = stack.enter_context(AlignmentWriter(out)) if out else None
        for transitions, timed in _aligned(folder, hmms, options, outputs, text, shift, long=long):
            found.append(timed)
            if writer:
                writer.write(timed.utterance, transitions)
        if not found:
            raise NnetError(f"{feats}: no utterance could be aligned; nothing is written")
    for path, content in (
        (ctm, "".join(map(ctm_text, found))),
        (json_file, json.dumps([json_object(t) for t in found], ensure_ascii=False, indent=1)),
    ):
        if path:
            write_files({Path(path).name: content.encode()}, Path(path).parent)
    if textgrid:
        write_files({f"{t.utterance}.TextGrid": grid(t).encode() for t in found}, Path(textgrid))


def _hmms(loaded: Model, model: str, tree: str) -> PhoneHmms:
    from nnet.data.chain.expansion import PhoneHmms
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.trees import read_tree

    if loaded.transition_model is None:
        raise NnetError(f"{model}: has no transition model; expected: an acoustic model (.mdl)")
    path = tree or str(Path(model).parent / "tree")
    return PhoneHmms(loaded.transition_model, read_tree(open_file(path)))


def _lang(path: Path, model: str, silence_phones: str) -> Lang:
    from nnet.modelfile.symbols import read_symbols
    from nnet.speech.graphs.lang import make_lang, read_lang
    from nnet.speech.graphs.lexicon import read_lexicon

    if path.is_dir() or not path.exists():
        return read_lang(path)
    phones = read_symbols(Path(model).parent / "phones.txt")
    silences = silence_phones.split(":")
    return make_lang(
        read_lexicon(path, with_probabilities=path.name == "lexiconp.txt"),
        silences,
        silences[0],
        position_dependent=f"{silences[0]}_S" in phones.labels,
        known_phones=phones,
    )


def _outputs(
    loaded: Model,
    feats: str,
    vectors: tuple[str, str, int],
    frames_per_chunk: int,
    subsampling: int,
    num_threads: int,
) -> Iterator[tuple[str, Floats]]:
    """The network's outputs by utterance."""
    import torch

    from nnet.commands.compute import utterances
    from nnet.inference.chunks import ChunkedInference
    from nnet.inference.options import ChunkOptions
    from nnet.runtime.compiled import compile_network

    if num_threads:
        torch.set_num_threads(num_threads)
    module = compile_network(loaded.network, test_mode=True, outputs=("output",))
    options = ChunkOptions(frames_per_chunk, subsampling)
    return ChunkedInference(module, options).run(utterances(feats, *vectors))


def _aligned(
    lang: Lang,
    hmms: PhoneHmms,
    options: AlignmentOptions,
    outputs: Iterator[tuple[str, Floats]],
    text: Path,
    frame_shift: float,
    *,
    long: bool,
) -> Iterator[tuple[Ids, TimedText]]:
    """The transition-ids, and the words and phones, of those that can be aligned."""
    from nnet.speech.alignment import Aligner, labels_of_text
    from nnet.speech.alignment_files import timed_text

    texts = _texts(text)
    aligner = Aligner(lang.plain_lexicon, lang.disambiguation, hmms, _finder(lang), options)
    run = _long_aligner(lang, hmms, aligner, options, frame_shift) if long else aligner
    for name, rows in outputs:
        try:
            if name not in texts:
                raise NnetError(f"{text} has no text of it")
            words = labels_of_text(texts[name], lang.words.labels, lang.unknown)
            found = run(words, rows)
        except NnetError as error:
            print(f"nnet: warning: utterance '{name}' left out: {error}", file=sys.stderr)
            continue
        timed = timed_text(name, found, lang.words, lang.phones, frame_shift)
        yield found.path.transitions, timed


def _long_aligner(
    lang: Lang, hmms: PhoneHmms, aligner: Aligner, options: AlignmentOptions, frame_shift: float
) -> LongAligner:
    from nnet.speech.decoding import DecoderOptions
    from nnet.speech.graphs.building import GraphScales
    from nnet.speech.long_alignment import LongAligner

    search = DecoderOptions(
        beam=LONG_BEAM,
        max_active=LONG_MAX_ACTIVE,
        lattice_beam=0.5,
        acoustic_scale=options.acoustic_scale,
    )
    scales = GraphScales(options.transition_scale, options.self_loop_scale)
    shortest = max(1, round(SHORTEST / frame_shift))
    return LongAligner(lang, hmms, aligner, search, scales, shortest)


def _texts(path: Path) -> dict[str, Sequence[str]]:
    from nnet.modelfile.symbols import read_lines

    lines = [line.split() for line in read_lines(path) if line.strip()]
    return {words[0]: words[1:] for words in lines}


def _finder(lang: Lang) -> WordFinder:
    from nnet.speech.lattices.word_alignment import BoundaryFinder, LexiconFinder

    if lang.places is not None:
        return BoundaryFinder(lang.places)
    if lang.entries is not None:
        return LexiconFinder(lang.entries)
    raise NnetError(
        "the lang folder has neither phones/word_boundary.int nor phones/align_lexicon.txt; "
        "expected: one of them"
    )
