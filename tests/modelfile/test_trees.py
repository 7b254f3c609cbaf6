"""Trees (phonetic context dependency): files, answers, and trees without a GMM system."""

from __future__ import annotations

import itertools

import pytest

from nnet.errors import NnetError
from nnet.modelfile.loading import open_bytes, open_file
from nnet.modelfile.trees import (
    ContextDependency,
    Leaf,
    Split,
    Table,
    left_biphone_tree,
    monophone_tree,
    read_tree,
    write_tree,
)
from nnet.modelfile.writing import BinaryWriter, TextWriter
from tests.support import GOLDEN

CHAIN_TREE = GOLDEN / "training/chain/tree"
TRIPHONE = ContextDependency(
    3,
    1,
    Split(
        0,
        frozenset({1, 4}),
        Table(-1, (Leaf(0), Leaf(1))),
        Split(2, frozenset({2}), Leaf(2), Table(1, (None, Leaf(3), Leaf(4)))),
    ),
)


def written(tree: ContextDependency, *, binary: bool) -> bytes:
    writer = BinaryWriter() if binary else TextWriter()
    write_tree(writer, tree)
    return bytes(writer)


def test_kaldis_tree_comes_back_byte_for_byte() -> None:
    assert written(read_tree(open_file(CHAIN_TREE)), binary=True) == CHAIN_TREE.read_bytes()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("tree", [TRIPHONE, monophone_tree({1: 3, 2: 2})])
def test_round_trip(tree: ContextDependency, binary: bool) -> None:
    assert read_tree(open_bytes(written(tree, binary=binary), "tree")) == tree


def test_the_text_is_kaldis() -> None:
    tree = ContextDependency(1, 0, Split(0, frozenset({2, 1}), Leaf(5), Leaf(6)))
    assert written(tree, binary=False).decode() == (
        "ContextDependency 1 0 ToPdf SE 0 [ 1 2 ]\n{ CE 5 CE 6 } \nEndContextDependency "
    )


def test_answers() -> None:
    assert TRIPHONE.pdf((4, 9, 9), 1) == 1
    assert TRIPHONE.pdf((0, 9, 2), 0) == 2
    assert TRIPHONE.pdf((0, 2, 0), 0) == 4
    assert TRIPHONE.pdfs({1: 1}) == {0, 1, 2, 3}
    assert TRIPHONE.num_pdfs == 5


def test_no_answer() -> None:
    with pytest.raises(NnetError, match="no pdf for pdf-class 0 in the context of phones 0 3 0"):
        TRIPHONE.pdf((0, 3, 0), 0)


def test_a_monophone_tree_is_kaldis() -> None:
    assert monophone_tree(dict.fromkeys(range(1, 5), 2)) == read_tree(open_file(CHAIN_TREE))


def test_a_left_biphone_tree_has_a_pdf_for_each_pair_and_class() -> None:
    tree = left_biphone_tree({1: 2, 2: 2, 3: 2}, without_context=[1])
    pdfs = {
        (left, phone, pdf_class): tree.pdf((left, phone), pdf_class)
        for left, phone, pdf_class in itertools.product(range(4), (1, 2, 3), (0, 1))
    }
    assert tree.num_pdfs == 2 + 2 * (2 + 2 * 2)  # silence, then without and with left context
    assert set(pdfs.values()) == set(range(tree.num_pdfs))
    assert pdfs[2, 1, 0] == pdfs[0, 1, 0] == 0
    assert pdfs[1, 2, 0] == pdfs[0, 2, 0] == 2
    assert len({pdfs[left, 2, 0] for left in (0, 2, 3)}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ContextDependency 2 2 ToPdf CE 0 EndContextDependency ", "width of a context"),
        ("ContextDependency 1 0 ToPdf NULL EndContextDependency ", "expected a tree"),
        ("ContextDependency 1 0 ToPdf CE -1 EndContextDependency ", "expected a pdf"),
        ("ContextDependency 1 0 ToPdf TE 1 1 ( CE 0 ) EndContextDependency ", "a phone from 0"),
        ("ContextDependency 1 0 ToPdf TE 0 4000000000 ( CE 0 ) ", "the size of a table"),
        ("ContextDependency 1 0 ToPdf SE 0 [ 1 ]\n{ CE 1 NULL } ", "two subtrees"),
        ("ContextDependency 1 0 ToPdf " + "TE 0 1 ( " * 400, "at most 300 levels"),
        ("ContextDependency 1 0 ToPdf XX 0 ", "NULL or CE or TE or SE"),
    ],
)
def test_damage_is_named(text: str, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        read_tree(open_bytes(text.encode(), "tree"))


def test_every_cut_of_a_file_is_refused() -> None:
    content = CHAIN_TREE.read_bytes()
    for size in range(2, len(content) - 1):
        with pytest.raises(NnetError):
            read_tree(open_bytes(content[:size], "tree"))
