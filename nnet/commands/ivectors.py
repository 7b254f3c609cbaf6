"""`nnet ivectors`: features to i-vectors.

Kaldi's ivector-extract-online2, and one i-vector an utterance or a speaker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Option, missing

if TYPE_CHECKING:
    from nnet.data.matrices import Floats
    from nnet.data.tables import RandomAccess
    from nnet.speech.ivectors.extraction import IvectorExtraction


def ivectors(
    extractor: Annotated[
        str, Argument(help="Folder with final.ie and the rest, or an ivector_extractor.conf.")
    ],
    feats: Annotated[
        str, Argument(help="Features, an rspecifier such as scp:feats.scp, or a data folder.")
    ],
    out: Annotated[str, Argument(help="i-vectors, a wspecifier such as ark:ivectors.ark.")],
    spk2utt: Annotated[
        str,
        Option("File of speakers and their utterances, in order [of the data folder]."),
    ] = "",
    per_utterance: Annotated[bool, Option("Forget the speaker after each utterance.")] = False,
    offline: Annotated[
        str,
        Option("One i-vector from all frames instead: of an 'utterance' or a 'speaker'."),
    ] = "",
    frame_weights: Annotated[
        str, Option("Rspecifier of weights of frames, such as 0 for silence.")
    ] = "",
    repeat: Annotated[
        bool,
        Option("An i-vector for each frame instead of one a period.", applies=missing("offline")),
    ] = False,
    ivector_period: Annotated[
        int | None, Option("Frames from one i-vector to the next [10].")
    ] = None,
    max_count: Annotated[
        float | None, Option("Frames (scaled) above which the prior grows with them [0].")
    ] = None,
    posterior_scale: Annotated[float | None, Option("Weight of a frame [0.1].")] = None,
    num_gselect: Annotated[int | None, Option("Gaussians for a frame [5].")] = None,
    min_post: Annotated[float | None, Option("Least posterior [0.025].")] = None,
) -> None:
    """Estimates i-vectors as a recognizer does while it listens: from the frames so far.

    With --spk2utt each utterance begins with what is known of its speaker. An utterance without
    features is left out with a warning. OUT gets a matrix an utterance, one row every
    --ivector-period frames; with --offline a vector each.

    Example: nnet ivectors exp/extractor scp:feats.scp ark:ivectors.ark --spk2utt data/spk2utt
    """
    from nnet.data.tables import random_access
    from nnet.speech.ivectors.extraction import read_extraction

    given = {
        "ivector_period": ivector_period,
        "max_count": max_count,
        "posterior_scale": posterior_scale,
        "num_gselect": num_gselect,
        "min_post": min_post,
    }
    if offline not in ("", "utterance", "speaker"):
        raise NnetError(f"--offline is '{offline}'; expected: utterance or speaker")
    extraction = read_extraction(extractor).with_options(
        **{name: value for name, value in given.items() if value is not None}
    )
    folder = feats if os.path.isdir(feats) else ""
    table = random_access(f"scp:{folder}/feats.scp" if folder else feats)
    groups = _groups(spk2utt or (f"{folder}/spk2utt" if folder else ""), table)
    if per_utterance or offline == "utterance":
        groups = {name: (name,) for names in groups.values() for name in names}
    weights = _weights(frame_weights)
    if not any(groups.values()):
        raise NnetError(f"{feats}: no utterance has features; nothing is written")
    if offline:
        _offline(extraction, table, groups, weights, out)
    else:
        _online(extraction, table, groups, weights, out, repeat)


def _groups(spk2utt: str, table: RandomAccess[Floats]) -> dict[str, tuple[str, ...]]:
    """Utterances by speaker; without speakers each for itself."""
    from nnet.data.folder_reading import read_utterances_of_speakers

    if not spk2utt:
        return {name: (name,) for name in table}
    groups = read_utterances_of_speakers(spk2utt)
    for name in (name for names in groups.values() for name in names if name not in table):
        print(f"nnet: warning: utterance '{name}' has no features; left out", file=sys.stderr)
    return {
        speaker: tuple(name for name in names if name in table) for speaker, names in groups.items()
    }


def _weights(rspecifier: str) -> Mapping[str, Floats] | None:
    from nnet.data.matrices import read_vector_or_matrix
    from nnet.data.tables import RandomAccess

    return RandomAccess(rspecifier, read_vector_or_matrix) if rspecifier else None


def _frames(
    name: str, table: Mapping[str, Floats], weights: Mapping[str, Floats] | None
) -> tuple[Floats, Floats | None]:
    """Features of an utterance, and the weights of its frames."""
    frames = table[name]
    if weights is None:
        return frames, None
    if name not in weights:
        raise NnetError(f"utterance '{name}' has no weights (--frame-weights)")
    own = weights[name].reshape(-1)
    if len(own) != len(frames):
        raise NnetError(
            f"utterance '{name}' has {len(frames)} frames and {len(own)} weights; expected: one for"
            " each frame"
        )
    return frames, own


def _online(
    extraction: IvectorExtraction,
    table: Mapping[str, Floats],
    groups: Mapping[str, tuple[str, ...]],
    weights: Mapping[str, Floats] | None,
    out: str,
    repeat: bool,
) -> None:
    from nnet.commands.progress import Progress
    from nnet.data.writers import MatrixWriter
    from nnet.speech.ivectors.online import utterance_ivectors

    with MatrixWriter(out) as writer, Progress("ivectors", "frames") as progress:
        for names in groups.values():
            state = None
            for name in names:
                frames, own = _frames(name, table, weights)
                extraction.check_features(frames.shape[1], f"utterance '{name}'")
                rows, state = utterance_ivectors(
                    extraction, frames, state, weights=own, repeat=repeat
                )
                writer.write(name, rows)
                progress.advance(len(frames))


def _offline(
    extraction: IvectorExtraction,
    table: Mapping[str, Floats],
    groups: Mapping[str, tuple[str, ...]],
    weights: Mapping[str, Floats] | None,
    out: str,
) -> None:
    from nnet.data.writers import VectorWriter
    from nnet.speech.ivectors.online import offline_ivector

    with VectorWriter(out) as writer:
        for speaker, names in groups.items():
            if names:
                parts = [_frames(name, table, weights) for name in names]
                writer.write(speaker, offline_ivector(extraction, parts))
