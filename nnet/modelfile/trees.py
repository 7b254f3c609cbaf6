"""Phonetic context dependency ("tree"): which pdf a phone in its context has.

Kaldi's ContextDependency and EventMap (tree/context-dep.h, tree/event-map.h). An event is the
phones of a window, with keys from 0, and the pdf-class of an HMM state, with the key -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnet.errors import NnetError
from nnet.modelfile.tokens import Reader
from nnet.modelfile.writing import Writer

PDF_CLASS = -1
"""The key of the pdf-class."""
WIDEST_WINDOW = 100
DEEPEST_TREE = 300


@dataclass(frozen=True)
class Leaf:
    """The answer: a pdf (Kaldi's ConstantEventMap)."""

    pdf: int


@dataclass(frozen=True)
class Table:
    """One subtree for each value of `key`; None for values that do not occur (TableEventMap)."""

    key: int
    children: tuple[EventMap | None, ...]


@dataclass(frozen=True)
class Split:
    """`yes` if the value of `key` is one of `values`, otherwise `no` (SplitEventMap)."""

    key: int
    values: frozenset[int]
    yes: EventMap
    no: EventMap


EventMap = Leaf | Table | Split


@dataclass(frozen=True)
class ContextDependency:
    """Maps windows of phones and pdf-classes to pdfs.

    Args:
        width: phones in a window (N).
        central_position: of the phone that the pdf belongs to, from 0 (P).
        to_pdf: the tree.
    """

    width: int
    central_position: int
    to_pdf: EventMap

    def pdf(self, window: Sequence[int], pdf_class: int) -> int:
        """The pdf of the central phone of a window; 0 stands for no phone, at an utterance's edge.

        Raises:
            NnetError: the tree has no answer.
        """
        found = self.pdfs({PDF_CLASS: pdf_class, **dict(enumerate(window))})
        if len(found) != 1:
            raise NnetError(
                f"the tree has no pdf for pdf-class {pdf_class} in the context of phones "
                f"{' '.join(map(str, window))}; expected: a tree of the same phones and topology"
            )
        return found.pop()

    def pdfs(self, event: Mapping[int, int]) -> set[int]:
        """All pdfs that an event can have of which only some keys are known."""
        return set(_answers(self.to_pdf, event))

    @property
    def num_pdfs(self) -> int:
        """One more than the largest pdf."""
        return 1 + max(self.pdfs({}), default=-1)


def _answers(tree: EventMap | None, event: Mapping[int, int]) -> Iterator[int]:
    if tree is None:
        return
    if isinstance(tree, Leaf):
        yield tree.pdf
        return
    value = event.get(tree.key)
    for child in _children(tree, value):
        yield from _answers(child, event)


def _children(tree: Table | Split, value: int | None) -> Sequence[EventMap | None]:
    """The subtrees for a value of the tree's key, all of them if it is not known."""
    if isinstance(tree, Split):
        if value is None:
            return tree.yes, tree.no
        return (tree.yes if value in tree.values else tree.no,)
    if value is None:
        return tree.children
    return tree.children[value : value + 1] if value >= 0 else ()


def read_tree(reader: Reader) -> ContextDependency:
    """The tree that begins here.

    Raises:
        NnetError: it is damaged.
    """
    reader.expect("ContextDependency")
    start = reader.position
    width, central = reader.integer(), reader.integer()
    if not 0 <= central < width <= WIDEST_WINDOW:
        reader.fail("the width of a context and a position in it", f"{width}, {central}", at=start)
    if reader.expect("ToPdf", "ToLength") == "ToLength":  # of old trees; not used
        _read_map(reader, width, DEEPEST_TREE)
        reader.expect("ToPdf")
    start = reader.position
    to_pdf = _read_map(reader, width, DEEPEST_TREE)
    if to_pdf is None:
        reader.fail("a tree", "an empty one", at=start)
    reader.expect("EndContextDependency")
    return ContextDependency(width, central, to_pdf)


def _read_map(reader: Reader, width: int, depth: int) -> EventMap | None:
    if depth == 0:
        reader.fail(f"a tree of at most {DEEPEST_TREE} levels", "a deeper one")
    kind = reader.expect("NULL", "CE", "TE", "SE")
    if kind == "NULL":
        return None
    start = reader.position
    number = reader.integer()
    if kind == "CE":
        if number < 0:
            reader.fail("a pdf", str(number), at=start)
        return Leaf(number)
    if not PDF_CLASS <= number < width:
        reader.fail(f"the pdf-class (-1) or a phone from 0 to {width - 1}", str(number), at=start)
    if kind == "SE":
        return _read_split(reader, number, width, depth)
    start = reader.position
    count = reader.unsigned()
    if count > reader.remaining:
        reader.fail("the size of a table", str(count), at=start)
    reader.expect("(")
    children = tuple(_read_map(reader, width, depth - 1) for _ in range(count))
    reader.expect(")")
    return Table(number, children)


def _read_split(reader: Reader, key: int, width: int, depth: int) -> Split:
    values = frozenset(reader.integers())
    reader.expect("{")
    start = reader.position
    yes, no = (_read_map(reader, width, depth - 1) for _ in range(2))
    if yes is None or no is None:
        reader.fail("two subtrees", "an empty one", at=start)
    reader.expect("}")
    return Split(key, values, yes, no)


def write_tree(writer: Writer, tree: ContextDependency) -> None:
    """Writes a tree; one that was read gets the same bytes."""
    writer.token("ContextDependency")
    writer.integer(tree.width)
    writer.integer(tree.central_position)
    writer.token("ToPdf")
    _write_map(writer, tree.to_pdf)
    writer.token("EndContextDependency")


def _write_map(writer: Writer, tree: EventMap | None) -> None:
    if tree is None:
        writer.token("NULL")
    elif isinstance(tree, Leaf):
        writer.token("CE")
        writer.integer(tree.pdf)
    elif isinstance(tree, Table):
        writer.token("TE")
        writer.integer(tree.key)
        writer.unsigned(len(tree.children))
        writer.token("(")
        for child in tree.children:
            _write_map(writer, child)
        writer.token(")")
        writer.text_newline()
    else:
        writer.token("SE")
        writer.integer(tree.key)
        writer.integers(sorted(tree.values))
        writer.token("{")
        _write_map(writer, tree.yes)
        _write_map(writer, tree.no)
        writer.token("}")
        writer.text_newline()


def monophone_tree(pdf_classes: Mapping[int, int]) -> ContextDependency:
    """A tree without context: the pdf-classes of each phone have pdfs of their own, in order.

    Args:
        pdf_classes: how many pdf-classes each phone has.
    """
    subtrees: dict[int, EventMap] = {}
    first = 0
    for phone, count in sorted(pdf_classes.items()):
        subtrees[phone] = _classes(range(first, first + count))
        first += count
    return ContextDependency(1, 0, _table(0, subtrees))


def left_biphone_tree(
    pdf_classes: Mapping[int, int], without_context: Sequence[int] = ()
) -> ContextDependency:
    """A tree with all pairs of a left and a central phone, as gmm-init-biphone makes it.

    Phones in `without_context` (silence and the like) have pdfs that do not depend on the left
    phone, and as left phones are like the beginning of an utterance.

    Args:
        pdf_classes: how many pdf-classes each phone has.
        without_context: phones of `pdf_classes`.
    """
    alone = sorted(set(without_context))
    others = [phone for phone in sorted(pdf_classes) if phone not in alone]
    subtrees: dict[int, EventMap] = {}
    first = 0

    def classes(phone: int) -> EventMap:
        nonlocal first
        first += pdf_classes[phone]
        return _classes(range(first - pdf_classes[phone], first))

    for phone in alone:
        subtrees[phone] = classes(phone)
    for phone in others:
        without = classes(phone)
        after = dict.fromkeys((0, *alone), without)
        subtrees[phone] = _table(0, after | {left: classes(phone) for left in others})
    return ContextDependency(2, 1, _table(1, subtrees))


def _classes(pdfs: Sequence[int]) -> Table:
    return Table(PDF_CLASS, tuple(Leaf(pdf) for pdf in pdfs))


def _table(key: int, subtrees: Mapping[int, EventMap]) -> Table:
    return Table(key, tuple(subtrees.get(value) for value in range(max(subtrees) + 1)))
