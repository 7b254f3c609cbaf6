"""Words with their times: from paths of aligned lattices, and as lines of a CTM file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnet.modelfile.lattices import CompactLattice
from nnet.modelfile.symbols import SymbolTable
from nnet.speech.lattices.confidence import WordTime
from nnet.speech.lattices.paths import LatticePath


def word_times(lattice: CompactLattice, path: LatticePath) -> list[WordTime]:
    """The words of a path with their times in frames (nbest-to-ctm).

    Args:
        lattice: one whose words are aligned.
        path: one of its paths.
    """
    found, time = [], 0
    for arc in path.arcs:
        end = time + len(lattice.strings[arc])
        if lattice.words[arc]:
            found.append(WordTime(int(lattice.words[arc]), time, end))
        time = end
    return found


def ctm_lines(
    utterance: str,
    words: Sequence[WordTime],
    symbols: SymbolTable | None,
    frame_shift: float,
    *,
    with_confidence: bool,
) -> Iterable[str]:
    """Lines of an utterance, channel 1: begin and length in seconds, word, confidence.

    Args:
        utterance: its name.
        words: with times in frames.
        symbols: names of the words; without them their labels are written.
        frame_shift: seconds from one frame to the next.
        with_confidence: whether the confidence is written.
    """
    for word in words:
        begin, length = frame_shift * word.begin, frame_shift * (word.end - word.begin)
        name = str(word.word) if symbols is None else symbols[word.word]
        confidence = f" {word.confidence:.2f}" if with_confidence else ""
        yield f"{utterance} 1 {begin:.2f} {length:.2f} {name}{confidence}"
