"""`nnet score`: the word error rate of recognised words, with a report.

Kaldi's compute-wer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Option
from nnet.speech.scoring import Counts, Mode

if TYPE_CHECKING:
    from collections.abc import Sequence


def score(
    reference: Annotated[Path, Argument(help="Lines of an utterance and its words.")],
    hypothesis: Annotated[Path, Argument(help="The same as recognised; - is standard input.")],
    mode: Annotated[
        Mode, Option(help="Where a hypothesis is missing: an error, an empty one, or no matter.")
    ] = Mode.STRICT,
    utt2spk: Annotated[
        str, Option(help="Lines of an utterance and its speaker: WER of each.")
    ] = "",
    report: Annotated[str, Option(help="File for the words under each other.")] = "",
    characters: Annotated[bool, Option(help="Count characters (CER).")] = False,
) -> None:
    """Compares recognised words with what was said: word error rate and sentence error rate.

    Example: nnet score data/dev/text words.txt --utt2spk data/dev/utt2spk --report errors.txt
    """
    from nnet.speech.graphs.lang import write_files
    from nnet.speech.scoring import aligned_words, counts_of, report_lines

    expected, found = _texts(reference), _texts(hypothesis)
    speakers = {name: words[0] for name, words in _texts(Path(utt2spk)).items()} if utt2spk else {}
    if mode is Mode.STRICT and (missing := [name for name in expected if name not in found]):
        raise NnetError(
            f"{hypothesis}: has no utterance '{missing[0]}' ({len(missing)} are missing); "
            "expected: all of the reference's, or --mode all or present"
        )
    total, absent = Counts(), 0
    by_speaker: dict[str, Counts] = {}
    lines: list[str] = []
    for name, words in expected.items():
        absent += name not in found
        if name not in found and mode is Mode.PRESENT:
            continue
        pairs = aligned_words(_units(words, characters), _units(found.get(name, []), characters))
        counts = counts_of(pairs)
        total += counts
        speaker = speakers.get(name, name)
        by_speaker[speaker] = by_speaker.get(speaker, Counts()) + counts
        lines += report_lines(name, pairs)
    if not total.sentences:
        raise NnetError(f"{reference}: none of its utterances is in {hypothesis}")
    name = "CER" if characters else "WER"
    print(total.word_line().replace("WER", name))
    print(total.sentence_line())
    print(f"Scored {total.sentences} sentences, {absent} not present in hyp.")
    for speaker, counts in sorted(by_speaker.items()) if utt2spk else ():
        print(f"{speaker} {counts.word_line().replace('WER', name)}")
    if report:
        content = "".join(f"{line}\n" for line in lines).encode()
        write_files({Path(report).name: content}, Path(report).parent)


def _units(words: Sequence[str], characters: bool) -> Sequence[str]:
    return list("".join(words)) if characters else words


def _texts(path: Path) -> dict[str, Sequence[str]]:
    from nnet.modelfile.symbols import read_lines

    lines = sys.stdin.read().split("\n") if str(path) == "-" else read_lines(path)
    texts: dict[str, Sequence[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if words[0] in texts:
            raise NnetError(f"{path}:{number}: a second line of utterance '{words[0]}'")
        texts[words[0]] = words[1:]
    if not texts:
        raise NnetError(f"{path}: expected lines of an utterance and its words, found none")
    return texts
