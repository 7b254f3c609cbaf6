"""Options about data that several commands have."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.data.cutting import Context
from nnet.options import Option, given, option

IVECTORS = Option("Rspecifier: one i-vector per utterance.")
ONLINE_IVECTORS = Option("Rspecifier: i-vectors estimated online, a matrix per utterance.")
ONLINE_IVECTOR_PERIOD = Option(
    "Frames from one online i-vector to the next.", least=1, applies=given("online_ivectors")
)
FRAME_SUBSAMPLING_FACTOR = Option("Input frames per output frame.", least=1)
ALI_MODEL = Option(
    "Transition model or .mdl of alignments that are transition-ids (Kaldi's ali.*.gz)."
)

LEFT_TOLERANCE = Option("Input frames that a phone may begin before its place.")
RIGHT_TOLERANCE = Option("Input frames that a phone may end after its place.")


@dataclass(frozen=True)
class CuttingOptions:
    """How examples are cut from utterances (nnet3-get-egs), all in input frames.

    `left_context_initial` and `right_context_final` are negative if the edges of an utterance have
    the context of other places.
    """

    left_context: int = option(0, "Input frames before each chunk.", least=0)
    right_context: int = option(0, "Input frames after each chunk.", least=0)
    left_context_initial: int = option(-1, "At the start of an utterance; -1: as elsewhere.")
    right_context_final: int = option(-1, "At the end of an utterance; -1: as elsewhere.")
    compress: bool = option(True, "Store features and matrices compressed.")
    srand: int = option(0, "Seed of the chunks' places.")

    @property
    def context(self) -> Context:
        """The frames around each chunk."""
        edges = (self.left_context_initial, self.right_context_final)
        initial, final = (None if frames < 0 else frames for frames in edges)
        return Context(self.left_context, self.right_context, initial, final)
