"""How a user's alignments are read: phones with lengths, or transition-ids with their model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnet.data.phone_alignments import (
    PhoneAlignment,
    TransitionAlignmentReader,
    read_integers,
    read_phone_alignment,
)
from nnet.data.streams import ByteReader
from nnet.data.targets import Target, read_target
from nnet.errors import NnetError
from nnet.modelfile.loading import open_file
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.transitions import read_transition_model


def alignment_reader(model: str) -> Callable[[ByteReader], PhoneAlignment]:
    """Reads one utterance's alignment.

    Args:
        model: a file with the transition model of which the alignments have transition-ids; empty
            if they are phones with lengths.
    """
    if not model:
        return read_phone_alignment
    return TransitionAlignmentReader(TransitionIds(read_transition_model(open_file(model))))


def target_reader(model: str, output_dim: int) -> Callable[[ByteReader], Target]:
    """Reads one utterance's targets: alignments, posteriors or matrices.

    Args:
        model: a file with the transition model of which alignments have transition-ids, which
            become pdf-ids; empty if they are pdf-ids.
        output_dim: of the network's output that the targets are for.

    Raises:
        NnetError: the file is no transition model, or is for another number of pdfs.
    """
    if not model:
        return read_target
    transitions = read_transition_model(open_file(model))
    if transitions.num_pdfs != output_dim:
        raise NnetError(
            f"--ali-model {model} has {transitions.num_pdfs} pdfs, the network's output has "
            f"dimension {output_dim}; give the output layer dim={transitions.num_pdfs}"
        )
    pdfs = TransitionIds(transitions).pdfs

    def read(reader: ByteReader) -> Target:
        found = read_integers(reader).astype(np.int64)
        wrong = np.flatnonzero((found < 1) | (found >= len(pdfs)))
        if wrong.size:
            raise reader.error(
                f"frame {wrong[0]} has the transition-id {found[wrong[0]]}",
                expected=f"1 to {len(pdfs) - 1}, those of {model}",
            )
        return pdfs[found].astype(np.int32)

    return read
