"""How a user's alignments are read: phones with lengths, or transition-ids with their model."""

from __future__ import annotations

from collections.abc import Callable

from nnet.data.phone_alignments import (
    PhoneAlignment,
    TransitionAlignmentReader,
    read_phone_alignment,
)
from nnet.data.streams import ByteReader
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
