"""Folders with a lexicon's transducers and symbols, as prepare_lang.sh makes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnet.atomic import atomic_write
from nnet.errors import NnetError
from nnet.fst.transducers import sorted_arcs
from nnet.modelfile.fst import Fst, read_fst_file, write_fst_file
from nnet.modelfile.graph_files import read_decoding_graph
from nnet.modelfile.symbols import EPSILON, SymbolTable, read_label_list, read_symbols
from nnet.modelfile.word_boundary import (
    AlignLexicon,
    Boundary,
    parse_align_lexicon,
    parse_word_boundary,
)
from nnet.speech.graphs.lexicon import (
    OptionalSilence,
    Pronunciation,
    lexicon_fst,
    with_disambiguation,
    with_word_positions,
)

WORD_DISAMBIGUATION = "#0"
SILENCE_MARKS = ("", "_B", "_E", "_I", "_S")
WORD_MARKS = {
    "_B": Boundary.BEGIN,
    "_E": Boundary.END,
    "_I": Boundary.INTERNAL,
    "_S": Boundary.SINGLETON,
}


@dataclass(frozen=True, eq=False)
class Lang:
    """What a graph is built of, beside the acoustic model.

    Args:
        words: labels of words, with #0.
        phones: labels of phones, with disambiguation symbols.
        disambiguation: labels of the disambiguation symbols among the phones.
        lexicon: L_disambig, from phones to words.
        plain_lexicon: L, the same without disambiguation symbols.
        grammar: G, if there is one.
        files: other files that go with the graph (`word_boundary.int`, ...), by name.
    """

    words: SymbolTable
    phones: SymbolTable
    disambiguation: Sequence[int]
    lexicon: Fst
    plain_lexicon: Fst
    grammar: Fst | None
    files: Mapping[str, bytes]

    @property
    def unknown(self) -> int | None:
        """The label of the word that stands for all others, if there is one."""
        content = self.files.get("oov.int", b"").split()
        if content:
            return int(content[0])
        name = self.files.get("oov.txt", b"").decode().strip()
        return self.words.label(name) if name else None

    @property
    def places(self) -> dict[int, Boundary] | None:
        """The phones' places in words, where they are known."""
        content = self.files.get("phones/word_boundary.int")
        return None if content is None else parse_word_boundary(content, "word_boundary.int")

    @property
    def entries(self) -> AlignLexicon | None:
        """The words' phones for alignment, where they are known."""
        content = self.files.get("phones/align_lexicon.int")
        if content is not None:
            return parse_align_lexicon(content, "align_lexicon.int")
        content = self.files.get("phones/align_lexicon.txt")
        if content is None:
            return None
        return parse_align_lexicon(content, "align_lexicon.txt", self.words, self.phones)


KEPT = (
    "oov.int",
    "oov.txt",
    "words.txt",
    "phones.txt",
    "phones/word_boundary.int",
    "phones/word_boundary.txt",
    "phones/align_lexicon.int",
    "phones/align_lexicon.txt",
    "phones/optional_silence.int",
    "phones/disambig.int",
    "phones/silence.csl",
)


def read_lang(folder: str | os.PathLike[str]) -> Lang:
    """A folder of Kaldi's prepare_lang.sh.

    Raises:
        NnetError: a file is missing or damaged.
    """
    path = Path(folder)
    if not path.is_dir():
        raise NnetError(f"{folder}: expected a lang folder with L_disambig.fst and words.txt")
    grammar = path / "G.fst"
    return Lang(
        read_symbols(path / "words.txt"),
        read_symbols(path / "phones.txt"),
        read_label_list(path / "phones/disambig.int"),
        read_fst_file(path / "L_disambig.fst"),
        read_fst_file(path / "L.fst"),
        read_decoding_graph(grammar).columns() if grammar.exists() else None,
        {name: (path / name).read_bytes() for name in KEPT if (path / name).exists()},
    )


def make_lang(
    entries: Sequence[Pronunciation],
    silence_phones: Sequence[str],
    optional_silence: str,
    *,
    silence_probability: float = 0.5,
    position_dependent: bool = True,
    unknown: str = "",
    known_phones: SymbolTable | None = None,
) -> Lang:
    """What prepare_lang.sh makes of a lexicon.

    Args:
        entries: words and their phones.
        silence_phones: phones outside words, or that are words' only ones, such as SIL and SPN.
        optional_silence: the one of them that can stand between words.
        silence_probability: of it.
        position_dependent: whether phones are marked by their places in words.
        unknown: the word that stands for all others.
        known_phones: labels of the phones, of a system that is there already.

    Raises:
        NnetError: the optional silence is none of the silence phones, or the lexicon has #0.
    """
    if optional_silence not in silence_phones:
        raise NnetError(
            f"the optional silence '{optional_silence}' is none of the silence phones "
            f"{' '.join(silence_phones)}"
        )
    reserved = {WORD_DISAMBIGUATION, EPSILON, "<s>", "</s>"}
    wrong = next((entry.word for entry in entries if entry.word in reserved), None)
    if wrong is not None:
        raise NnetError(f"the lexicon has the word '{wrong}', which has a meaning of its own")
    marked = with_word_positions(entries) if position_dependent else list(entries)
    disambiguated, most = with_disambiguation(marked)
    symbols = [f"#{number}" for number in range(most + 2)]
    if known_phones is None:
        own = _phones(entries, silence_phones, position_dependent)
    else:
        own = [name for name in known_phones.values() if not name.startswith("#")][1:]
    phones = _table([EPSILON, *own, *symbols], "phones.txt")
    if known_phones is not None and any(known_phones.labels[n] != phones.labels[n] for n in own):
        raise NnetError(f"{known_phones.name}: expected labels from 0 without gaps, #0 after them")
    names = sorted({entry.word for entry in entries})
    words = _table([EPSILON, *names, WORD_DISAMBIGUATION, "<s>", "</s>"], "words.txt")
    silence = OptionalSilence(optional_silence, silence_probability)
    with_symbol = OptionalSilence(optional_silence, silence_probability, symbols[-1])
    pair = (WORD_DISAMBIGUATION, WORD_DISAMBIGUATION)
    silent = [label for label, name in phones.items() if _base(name) in silence_phones]
    files = _files(words, phones, marked, optional_silence, silent, position_dependent)
    if unknown:
        files["oov.txt"] = f"{unknown}\n".encode()
        files["oov.int"] = f"{words.label(unknown)}\n".encode()
    return Lang(
        words,
        phones,
        [phones.label(symbol) for symbol in symbols],
        sorted_arcs(lexicon_fst(disambiguated, phones, words, with_symbol, pair), by_output=True),
        sorted_arcs(lexicon_fst(marked, phones, words, silence), by_output=True),
        None,
        files,
    )


def _phones(
    entries: Sequence[Pronunciation], silence_phones: Sequence[str], position_dependent: bool
) -> list[str]:
    """All phones with the marks that they can have, silence first."""
    plain = sorted({p for entry in entries for p in entry.phones} - set(silence_phones))
    marks = sorted(WORD_MARKS) if position_dependent else [""]
    silent = SILENCE_MARKS if position_dependent else ("",)
    own = [f"{phone}{mark}" for phone in silence_phones for mark in silent]
    return own + [f"{phone}{mark}" for phone in plain for mark in marks]


def with_lexicon(lang: Lang, entries: Sequence[Pronunciation]) -> Lang:
    """Another lexicon in the place of a folder's own; the phones stay what they are.

    Raises:
        NnetError: the lexicon has a phone that the folder does not have.
    """
    silence = lang.files.get("phones/optional_silence.int", b"").split()
    silent = lang.files.get("phones/silence.csl", b"").replace(b":", b" ").split()
    if not silence or not silent:
        raise NnetError("expected: phones/optional_silence.int and phones/silence.csl in the lang")
    names = [lang.phones[int(label)] for label in silent]
    return make_lang(
        entries,
        list(dict.fromkeys(_base(name) for name in names)),
        lang.phones[int(silence[0])],
        position_dependent="phones/word_boundary.int" in lang.files,
        known_phones=lang.phones,
    )


def _base(phone: str) -> str:
    mark = phone[-2:]
    return phone[:-2] if mark in WORD_MARKS else phone


def _table(symbols: Sequence[str], name: str) -> SymbolTable:
    return SymbolTable(dict(enumerate(symbols)), name)


def _files(
    words: SymbolTable,
    phones: SymbolTable,
    marked: Sequence[Pronunciation],
    optional_silence: str,
    silent: Sequence[int],
    position_dependent: bool,
) -> dict[str, bytes]:
    def lines(items: Sequence[str]) -> bytes:
        return "".join(f"{item}\n" for item in items).encode()

    disambiguation = [label for label, name in phones.items() if name.startswith("#")]
    aligned = [f"{EPSILON} {EPSILON} {optional_silence}"]
    aligned += [f"{e.word} {e.word} {' '.join(e.phones)}" for e in marked]
    files = {
        "words.txt": lines([f"{name} {label}" for label, name in words.items()]),
        "phones.txt": lines([f"{name} {label}" for label, name in phones.items()]),
        "phones/disambig.int": lines([str(label) for label in disambiguation]),
        "phones/silence.csl": lines([":".join(map(str, silent))]),
        "phones/optional_silence.int": lines([str(phones.label(optional_silence))]),
        "phones/align_lexicon.txt": lines(aligned),
    }
    if position_dependent:
        places = [
            (label, WORD_MARKS.get(name[-2:], Boundary.NONWORD))
            for label, name in phones.items()
            if label and not name.startswith("#")
        ]
        files["phones/word_boundary.int"] = lines([f"{p} {place}" for p, place in places])
    return files


def write_lang(lang: Lang, folder: str | os.PathLike[str]) -> None:
    """Writes a lang folder: L.fst, L_disambig.fst, G.fst if there is one, symbols and lists.

    Raises:
        NnetError: it cannot be written.
    """
    path = Path(folder)
    write_files(lang.files, path)
    write_fst_file(lang.plain_lexicon, path / "L.fst")
    write_fst_file(lang.lexicon, path / "L_disambig.fst")
    if lang.grammar is not None:
        write_fst_file(lang.grammar, path / "G.fst")


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes files into a folder, which is made with those in it.

    Raises:
        NnetError: it cannot be written.
    """
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NnetError(f"{path.parent}: cannot make the folder: {error.strerror}") from None
        with atomic_write(path) as stream:
            stream.write(content)
