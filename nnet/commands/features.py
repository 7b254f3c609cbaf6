"""`nnet features`: recordings to features: MFCC, filter banks, PLP, pitch.

Kaldi's compute-mfcc-feats and its kind, with what usually follows them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Applies, Option, given

if TYPE_CHECKING:
    from nnet.data.matrices import Doubles, Floats
    from nnet.speech.features import Features
    from nnet.speech.perturbation import Perturbation
    from nnet.speech.postprocessing import Steps

NORMALIZED = Applies("with --cmvn", lambda values: values["cmvn"] != "none")
ONLINE = Applies("with --cmvn online", lambda values: values["cmvn"] == "online")
NORMALIZATIONS = ("none", "utterance", "speaker", "online")


def features(
    conf: Annotated[str, Argument(help="Options of the features, such as conf/mfcc.conf.")],
    waves: Annotated[
        str, Argument(help="Recordings: an rspecifier such as scp:wav.scp, or a data folder.")
    ],
    out: Annotated[str, Argument(help="Features, a wspecifier such as ark,scp:f.ark,f.scp.")],
    feature_type: Annotated[str, Option("mfcc, fbank, plp, pitch or processed-pitch.")] = "mfcc",
    segments: Annotated[str, Option("File of segments: UTTERANCE RECORDING START END.")] = "",
    utt2spk: Annotated[str, Option("File of speakers [that of the data folder].")] = "",
    channel: Annotated[int, Option("Channel of the recordings; -1: the only one.")] = -1,
    allow_downsample: Annotated[
        bool | None, Option("Resample recordings with a higher rate.")
    ] = None,
    allow_upsample: Annotated[bool | None, Option("Resample recordings with a lower rate.")] = None,
    vtln_warp: Annotated[float, Option("Factor of vocal tract length normalization.")] = 1.0,
    cmvn: Annotated[str, Option("Normalize: none, utterance, speaker or online.")] = "none",
    cmvn_config: Annotated[str, Option("Options of the normalization.", applies=NORMALIZED)] = "",
    global_cmvn_stats: Annotated[
        str, Option("Global statistics, for --cmvn online.", applies=ONLINE)
    ] = "",
    write_cmvn: Annotated[
        str, Option("Wspecifier of statistics by speaker (compute-cmvn-stats).")
    ] = "",
    delta_order: Annotated[int, Option("Derivatives that are appended.")] = 0,
    splice: Annotated[str, Option("Frames before and after that are appended: 3,3.")] = "",
    transform: Annotated[str, Option("Matrix of a linear transform, such as LDA.")] = "",
    speeds: Annotated[
        str, Option("Speeds, a copy for each: 0.9,1.0,1.1 (names with sp0.9-, ...).")
    ] = "1.0",
    volume: Annotated[str, Option("Range of random factors of the volume: 0.125,2.")] = "",
    noises: Annotated[str, Option("Rspecifier of noises to add, or 'white'; see --snrs.")] = "",
    snrs: Annotated[
        str, Option("Signal-to-noise ratios in dB to draw.", applies=given("noises"))
    ] = "20,15,10,5",
    noise_probability: Annotated[
        float, Option("Share of utterances with noise.", least=0, applies=given("noises"))
    ] = 1.0,
    srand: Annotated[int, Option("Seed of everything random.", names=("--srand", "--seed"))] = 0,
    num_threads: Annotated[int, Option("Recordings computed at the same time.")] = 1,
) -> None:
    """Computes features of recordings: MFCC, filter banks, PLP or pitch, as Kaldi does.

    CONF holds Kaldi's options, one --name=value a line; it can also be an online.conf. Recordings
    are wav, or any format of the package soundfile. For --cmvn speaker they are read twice.

    Example: nnet features conf/mfcc.conf scp:data/train/wav.scp ark:mfcc.ark --num-threads 4
    """
    from nnet.commands.progress import Progress
    from nnet.data.matrices import write_double_matrix
    from nnet.data.writers import MatrixWriter, TableWriter
    from nnet.speech.many import ManyOptions, features_of_many
    from nnet.speech.postprocessing import speaker_statistics
    from nnet.speech.recordings import recordings

    if cmvn not in NORMALIZATIONS:
        raise NnetError(f"--cmvn is '{cmvn}'; expected: {', '.join(NORMALIZATIONS)}")
    words = [
        f"--{option}={str(value).lower()}"
        for option, value in (
            ("allow-downsample", allow_downsample),
            ("allow-upsample", allow_upsample),
        )
        if value is not None
    ]
    made = _features(conf, feature_type, words)
    perturbation = _perturbation(speeds, volume, noises, snrs, noise_probability, srand)
    options = ManyOptions(perturbation, vtln_warp, srand, num_threads)
    speakers = _speakers(waves, utt2spk, perturbation.speeds)
    steps = _steps(delta_order, splice, transform)

    def computed() -> Iterator[tuple[str, Floats]]:
        found = features_of_many(made, recordings(waves, segments, channel), options)
        return _with_frames(found)

    stats = None
    if write_cmvn or cmvn == "speaker":
        stats = speaker_statistics(computed(), speakers)
    if write_cmvn and stats is not None:
        with TableWriter(write_cmvn, write_double_matrix) as writer:
            for speaker, matrix in stats.items():
                writer.write(speaker, matrix)
    count = 0
    rows = _normalized(computed(), cmvn, cmvn_config, global_cmvn_stats, speakers, stats)
    with MatrixWriter(out) as table, Progress("features", "frames") as progress:
        for name, frames in rows:
            table.write(name, steps.apply(frames))
            progress.advance(len(frames))
            count += 1
        if count == 0:
            raise NnetError(f"{waves}: no utterance has any frames; nothing is written")


def _features(conf: str, kind: str, words: list[str]) -> Features:
    from nnet.speech.kinds import make_features
    from nnet.speech.pipeline import base_config
    from nnet.text.options_file import OptionsFile

    kind, path = base_config(conf, kind)
    file = OptionsFile.read(path)
    file.override(words)
    return make_features(kind, file)


def _perturbation(
    speeds: str, volume: str, noises: str, snrs: str, probability: float, seed: int
) -> Perturbation:
    from nnet.speech.perturbation import NoiseOptions, Perturbation
    from nnet.speech.waves import read_waves

    limits = _numbers("--volume", volume) if volume else None
    if limits is not None and len(limits) != 2:
        raise NnetError(f"--volume is '{volume}'; expected: two factors such as 0.125,2")
    return Perturbation(
        _numbers("--speeds", speeds),
        None if limits is None else (limits[0], limits[1]),
        dict(read_waves(noises)) if noises not in ("", "white") else {},
        NoiseOptions(_numbers("--snrs", snrs), probability) if noises else None,
        seed,
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise NnetError(f"{option} is '{text}'; expected: numbers separated by commas") from None


def _speakers(waves: str, utt2spk: str, speeds: tuple[float, ...]) -> Mapping[str, str]:
    """Speakers by utterance, of copies too."""
    from nnet.data.folder_reading import read_folder, read_speakers
    from nnet.speech.perturbation import speed_prefix

    speakers: Mapping[str, str] = {}
    if utt2spk:
        speakers = read_speakers(utt2spk)
    elif os.path.isdir(waves):
        speakers = read_folder(waves).speakers
    return {
        speed_prefix(speed) + name: speed_prefix(speed) + speaker
        for speed in speeds
        for name, speaker in speakers.items()
    }


def _steps(delta_order: int, splice: str, transform: str) -> Steps:
    from nnet.modelfile.loading import read_matrix
    from nnet.speech.postprocessing import Steps
    from nnet.speech.transforms import DeltaOptions, parse_splice

    return Steps(
        DeltaOptions(delta_order) if delta_order else None,
        parse_splice(splice) if splice else None,
        read_matrix(transform) if transform else None,
    )


def _normalized(
    rows: Iterator[tuple[str, Floats]],
    kind: str,
    config: str,
    global_stats: str,
    speakers: Mapping[str, str],
    stats: Mapping[str, Doubles] | None,
) -> Iterator[tuple[str, Floats]]:
    import numpy as np

    from nnet.modelfile.loading import open_file
    from nnet.speech.cmvn import CmvnOptions
    from nnet.speech.online_cmvn import OnlineCmvnOptions
    from nnet.speech.postprocessing import (
        normalized,
        normalized_by_utterance,
        normalized_online,
    )
    from nnet.text.options_file import read_options

    if kind == "online":
        if not global_stats:
            raise NnetError("--cmvn online needs --global-cmvn-stats, a file of CMVN statistics")
        online = read_options(config, OnlineCmvnOptions) if config else OnlineCmvnOptions()
        globals_ = open_file(global_stats).double_matrix().astype(np.float64)
        return normalized_online(rows, globals_, speakers, online)
    options = read_options(config, CmvnOptions) if config else CmvnOptions()
    if kind == "utterance":
        return normalized_by_utterance(rows, options)
    if kind == "speaker" and stats is not None:
        return normalized(rows, stats, speakers, options)
    return rows


def _with_frames(rows: Iterator[tuple[str, Floats]]) -> Iterator[tuple[str, Floats]]:
    for name, frames in rows:
        if len(frames):
            yield name, frames
        else:
            print(
                f"nnet: warning: utterance '{name}' is shorter than a frame; left out",
                file=sys.stderr,
            )
