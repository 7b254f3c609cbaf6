"""How utterances are cut for the computation of outputs; known before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.data.options import FRAME_SUBSAMPLING_FACTOR
from nnet.errors import NnetError
from nnet.options import Applies, Values, option


def makes_vectors(values: Values) -> bool:
    """Whether the options are for one vector an utterance."""
    return values["chunk_size"] is not None or values["min_chunk_size"] is not None


VECTORS = Applies("with --chunk-size or --min-chunk-size", makes_vectors)
FRAMES = Applies(
    "where outputs are for frames, without --chunk-size and --min-chunk-size",
    lambda values: not makes_vectors(values),
)


@dataclass(frozen=True)
class ChunkOptions:
    """How utterances are cut; all in frames. Names and defaults are nnet3-compute's.

    `extra_left_context_initial` and `extra_right_context_final` take the place of the other two at
    the first and last chunk of an utterance, if they are not negative.
    """

    frames_per_chunk: int = option(50, "Frames per chunk.", applies=FRAMES)
    frame_subsampling_factor: int = option(1, FRAME_SUBSAMPLING_FACTOR, applies=FRAMES)
    extra_left_context: int = option(0, "Input frames beyond the left context.", applies=FRAMES)
    extra_right_context: int = option(0, "Input frames beyond the right context.", applies=FRAMES)
    extra_left_context_initial: int = option(
        -1, "Extra left context of an utterance's first chunk; -1: the same.", applies=FRAMES
    )
    extra_right_context_final: int = option(
        -1, "Extra right context of an utterance's last chunk; -1: the same.", applies=FRAMES
    )

    def __post_init__(self) -> None:
        for name, least in (
            ("frames_per_chunk", 1),
            ("frame_subsampling_factor", 1),
            ("extra_left_context", 0),
            ("extra_right_context", 0),
        ):
            value = getattr(self, name)
            if value < least:
                option = name.replace("_", "-")
                raise NnetError(f"--{option} is {value}, expected at least {least}")


@dataclass(frozen=True)
class SegmentOptions:
    """How utterances are cut for one vector each. Names and defaults are nnet3-xvector-compute's.

    Args:
        chunk_size: frames a chunk; -1 for the whole utterance. The last chunk has what is left.
        min_chunk_size: the fewest frames that the network gets.
        pad_input: whether the first and last frame of a shorter chunk are repeated until it has
            as many; otherwise it is left out.
    """

    chunk_size: int = -1
    min_chunk_size: int = 100
    pad_input: bool = True

    def __post_init__(self) -> None:
        if self.chunk_size < 1 and self.chunk_size != -1:
            raise NnetError(
                f"--chunk-size is {self.chunk_size}, expected at least 1, or -1 for the whole "
                "utterance"
            )
        if self.min_chunk_size < 1:
            raise NnetError(f"--min-chunk-size is {self.min_chunk_size}, expected at least 1")
        if not self.pad_input and 0 < self.chunk_size < self.min_chunk_size:
            raise NnetError(
                f"--chunk-size is {self.chunk_size}, below --min-chunk-size "
                f"({self.min_chunk_size}), so that without --pad-input no chunk is left"
            )


@dataclass(frozen=True)
class VectorOptions:
    """Whether one vector an utterance is wanted, and how; None stands for what is not given."""

    chunk_size: int | None = option(
        None, "One vector an utterance: frames per chunk; -1: the whole utterance [-1]."
    )
    min_chunk_size: int | None = option(
        None, "One vector an utterance: fewest frames that the network gets [100]."
    )
    pad_input: bool = option(
        True,
        "Repeat the edge frames of chunks below --min-chunk-size; false: leave them out.",
        applies=VECTORS,
    )

    @property
    def segments(self) -> SegmentOptions | None:
        """How to make one vector an utterance; None if frames are wanted."""
        if self.chunk_size is None and self.min_chunk_size is None:
            return None
        size = -1 if self.chunk_size is None else self.chunk_size
        least = 100 if self.min_chunk_size is None else self.min_chunk_size
        return SegmentOptions(size, least, self.pad_input)
