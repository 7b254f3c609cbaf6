"""The kinds of features by name, and their configuration files."""

from __future__ import annotations

from collections.abc import Callable

from nnet.errors import NnetError, nearest
from nnet.speech.features import Fbank, FbankOptions, Features, Mfcc, MfccOptions, SpectralFeatures
from nnet.speech.online_features import OnlineFeatures, OnlineSpectralFeatures
from nnet.speech.online_pitch import OnlinePitch, OnlineProcessedPitch
from nnet.speech.pitch import Pitch, PitchOptions
from nnet.speech.pitch_processing import ProcessedPitch, ProcessPitchOptions
from nnet.speech.plp import Plp, PlpOptions
from nnet.text.options_file import OptionsFile


def _processed_pitch(file: OptionsFile) -> ProcessedPitch:
    return ProcessedPitch(Pitch(file.take(PitchOptions)), file.take(ProcessPitchOptions))


KINDS: dict[str, Callable[[OptionsFile], Features]] = {
    "mfcc": lambda file: Mfcc(file.take(MfccOptions)),
    "fbank": lambda file: Fbank(file.take(FbankOptions)),
    "plp": lambda file: Plp(file.take(PlpOptions)),
    "pitch": lambda file: Pitch(file.take(PitchOptions)),
    "processed-pitch": _processed_pitch,
}
"""How each kind is made from the options of its configuration file."""


def make_features(kind: str, file: OptionsFile) -> Features:
    """Features of a kind, from a file that holds their options and nothing else.

    Raises:
        NnetError: there is no such kind, or an option is wrong; with file and line.
    """
    if kind not in KINDS:
        meant = nearest(kind, KINDS)
        hint = f"; did you mean '{meant}'?" if meant else ""
        raise NnetError(f"--feature-type is '{kind}'; expected: {', '.join(KINDS)}{hint}")
    try:
        features = KINDS[kind](file)
        file.finish()
    except NnetError as error:
        named = str(error).startswith(f"{file.name}:")
        raise NnetError(str(error) if named else f"{file.name}: {error}") from None
    return features


def stream_of(
    features: Features, sample_frequency: float | None = None, seed: int = 0
) -> OnlineFeatures:
    """A stream of these features.

    Args:
        features: what is computed.
        sample_frequency: Hz of the signal; None: that of the features.
        seed: of everything random, such as dither.

    Raises:
        NnetError: the signal has another rate and may not be resampled.
    """
    if isinstance(features, SpectralFeatures):
        return OnlineSpectralFeatures(features, sample_frequency, seed)
    if isinstance(features, ProcessedPitch):
        return OnlineProcessedPitch(features, sample_frequency, seed)
    if isinstance(features, Pitch):
        return OnlinePitch(features, sample_frequency)
    raise NnetError(f"there is no stream of {type(features).__name__}")
