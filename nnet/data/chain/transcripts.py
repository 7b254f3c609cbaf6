"""Utterances with what was said in them, for end-to-end supervision."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.cutting import Transcribed
from nnet.data.chain.den_graph import check_phones
from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.data.locations import script_lines
from nnet.data.matrices import Floats, read_vector_or_matrix
from nnet.data.phone_alignments import read_integers
from nnet.data.specifiers import parse_rspecifier
from nnet.data.streams import ByteReader, open_file, open_input
from nnet.data.tables import RandomAccess, read_matrices
from nnet.errors import NnetError
from nnet.fst.states import linear_acceptor
from nnet.modelfile.fst import Fst, read_openfst
from nnet.modelfile.streaming import StreamReader

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IvectorTable:
    """I-vectors, a row for every `period` frames; an empty rspecifier is none."""

    rspecifier: str
    period: int


def transcribed(
    feats: str, targets: str, ivectors: IvectorTable, hmms: PhoneHmms, *, are_graphs: bool
) -> Iterator[Transcribed]:
    """The utterances that have features, targets and i-vectors; others are left out with a warning.

    Args:
        feats: rspecifier of features.
        targets: rspecifier of phone sequences, or of training graphs.
        ivectors: of the utterances, if any.
        hmms: of the phones.
        are_graphs: which of these the targets are.

    Raises:
        NnetError: a table is missing or damaged, or a phone has no HMM.
    """
    graphs: Mapping[str, Fst] = (
        dict(read_fsts(targets)) if are_graphs else RandomAccess(targets, GraphOfPhones(hmms))
    )
    vectors: RandomAccess[Floats] | None = None
    if ivectors.rspecifier:
        vectors = RandomAccess(ivectors.rspecifier, read_vector_or_matrix)
    left_out = 0
    for name, features in read_matrices(feats):
        if name not in graphs or (vectors is not None and name not in vectors):
            left_out += 1
            continue
        rows = None if vectors is None else np.atleast_2d(vectors[name])
        yield Transcribed(name, features, graphs[name], rows, ivectors.period)
    if left_out:
        log.warning("%d utterances have no targets or i-vectors and are left out", left_out)


class GraphOfPhones:
    """Reads the phones of an utterance as its training graph.

    Args:
        hmms: of the phones.
    """

    def __init__(self, hmms: PhoneHmms) -> None:
        self._hmms = hmms

    def __call__(self, reader: ByteReader) -> Fst:
        phones = linear_acceptor(read_integers(reader))
        try:
            check_phones(phones, self._hmms)
        except NnetError as error:
            raise reader.error(str(error)) from None
        return expanded(phones, self._hmms, transition_scale=0.0)


def read_fsts(rspecifier: str) -> Iterator[tuple[str, Fst]]:
    """Keys and FSTs of a table in OpenFst's binary form, as compile-train-graphs writes it.

    Raises:
        NnetError: the table is missing or damaged.
    """
    spec = parse_rspecifier(rspecifier)
    if spec.kind == "scp":
        for key, place in script_lines(spec.path):
            with open_file(place.path, key) as file:
                stream = ByteReader(file, place.path)
                stream.seek(place.offset)
                yield key, read_openfst(StreamReader(stream.some, stream.place))
        return
    with open_input(spec.path) as stream:
        reader = StreamReader(stream.some, stream.place)
        while not reader.at_end():
            key = reader.token("the key of an FST")
            yield key, read_openfst(reader)
