"""From sound to what a network gets: features, their normalization, pitch and i-vectors.

Kaldi's OnlineNnet2FeaturePipeline, configured by `conf/online.conf` of an online folder or by the
files of a Vosk folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import AdaptationState, OnlineCmvnState
from nnet.modelfile.loading import open_file
from nnet.speech.features import SpectralFeatures
from nnet.speech.ivectors.extraction import IvectorExtraction, found_file, read_extraction
from nnet.speech.ivectors.online import OnlineIvectors
from nnet.speech.ivectors.silence import SilenceWeightingOptions
from nnet.speech.kinds import make_features
from nnet.speech.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.speech.online_features import OnlineSpectralFeatures
from nnet.speech.online_pitch import OnlineProcessedPitch
from nnet.speech.pitch_processing import ProcessedPitch
from nnet.text.options_file import OptionsFile, read_options

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
VOSK_MAX_COUNT, VOSK_SILENCE_WEIGHT = 100.0, 1.0e-3
"""What Vosk sets for the i-vectors of its folders, which have no file for it."""


@dataclass(frozen=True)
class PipelineFiles:
    """Kaldi's OnlineNnet2FeaturePipelineConfig.

    Args:
        feature_type: mfcc, plp or fbank.
        mfcc_config: options of MFCC.
        plp_config: options of PLP.
        fbank_config: options of filter banks.
        cmvn_config: options of online CMVN, if the network's input is normalized.
        global_cmvn_stats: global CMVN statistics, then.
        add_pitch: pitch features are appended.
        online_pitch_config: options of the pitch features.
        ivector_extraction_config: options of i-vectors, if the network gets any.
    """

    feature_type: str = "mfcc"
    mfcc_config: str = ""
    plp_config: str = ""
    fbank_config: str = ""
    cmvn_config: str = ""
    global_cmvn_stats: str = ""
    add_pitch: bool = False
    online_pitch_config: str = ""
    ivector_extraction_config: str = ""


@dataclass(frozen=True, eq=False)
class FeaturePipeline:
    """What a network's input is made of.

    Args:
        base: MFCC, filter banks or PLP.
        cmvn: options of online CMVN; None: the network gets them as they are.
        global_cmvn: global CMVN statistics, (2, dim + 1), if there is `cmvn`.
        pitch: what is appended.
        ivectors: the i-vector extractor, which gets the base features.
        silence: weights of silence in i-vectors.
    """

    base: SpectralFeatures
    cmvn: OnlineCmvnOptions | None = None
    global_cmvn: Doubles | None = None
    pitch: ProcessedPitch | None = None
    ivectors: IvectorExtraction | None = None
    silence: SilenceWeightingOptions = field(default_factory=SilenceWeightingOptions)

    def __post_init__(self) -> None:
        if (self.cmvn is None) != (self.global_cmvn is None):
            raise NnetError("online CMVN needs both --cmvn-config and --global-cmvn-stats")
        if self.ivectors is not None:
            self.ivectors.check_features(self.base.dim, type(self.base).__name__)

    @property
    def dim(self) -> int:
        """Numbers in a frame, without the i-vector."""
        return self.base.dim + (self.pitch.dim if self.pitch else 0)

    def open(
        self,
        sample_frequency: float | None = None,
        *,
        state: AdaptationState | None = None,
        cmvn_state: OnlineCmvnState | None = None,
        seed: int = 0,
    ) -> OnlinePipeline:
        """A stream for one utterance.

        Args:
            sample_frequency: Hz of the signal; None: that of the features.
            state: what is known about the speaker, for i-vectors.
            cmvn_state: the same for the normalization of the network's input.
            seed: of everything random.

        Raises:
            NnetError: the signal has another rate and may not be resampled.
        """
        return OnlinePipeline(self, sample_frequency, state, cmvn_state, seed)


class OnlinePipeline:
    """A stream of a network's input; see `FeaturePipeline.open`.

    Attributes:
        ivectors: the stream of i-vectors, or None.
    """

    def __init__(
        self,
        pipeline: FeaturePipeline,
        sample_frequency: float | None,
        state: AdaptationState | None,
        cmvn_state: OnlineCmvnState | None,
        seed: int,
    ) -> None:
        self._base = OnlineSpectralFeatures(pipeline.base, sample_frequency, seed)
        self._cmvn: OnlineCmvn | None = None
        if pipeline.cmvn is not None and pipeline.global_cmvn is not None:
            begin = cmvn_state or OnlineCmvnState(pipeline.global_cmvn)
            self._cmvn = OnlineCmvn(pipeline.cmvn, begin)
        self._pitch: OnlineProcessedPitch | None = None
        if pipeline.pitch is not None:
            self._pitch = OnlineProcessedPitch(pipeline.pitch, sample_frequency, seed)
        self.ivectors: OnlineIvectors | None = None
        if pipeline.ivectors is not None:
            self.ivectors = OnlineIvectors(pipeline.ivectors, state)
        self._waiting = [np.zeros((0, pipeline.base.dim), np.float32)]
        if pipeline.pitch is not None:
            self._waiting.append(np.zeros((0, pipeline.pitch.dim), np.float32))
        self._taken = 0

    @property
    def frames_ready(self) -> int:
        """Frames since the beginning that are ready, with those that were taken."""
        return self._taken + min(len(frames) for frames in self._waiting)

    def accept(self, samples: Floats) -> None:
        """The next samples, (samples,), in any number."""
        self._base.accept(samples)
        if self._pitch is not None:
            self._pitch.accept(samples)
        self._advance()

    def finish(self) -> None:
        """The signal has ended."""
        self._base.finish()
        if self._pitch is not None:
            self._pitch.finish()
        self._advance()
        if self.ivectors is not None:
            self.ivectors.finish()

    def take(self) -> Floats:
        """Frames without i-vectors that became ready since the last call, (frames, dim)."""
        return self._take(self.frames_ready - self._taken)

    def take_with_ivectors(self) -> Floats:
        """Frames with the i-vector of each appended, (frames, dim + ivector_dim).

        Kaldi's online2-wav-dump-features.

        Raises:
            NnetError: this pipeline has no i-vectors.
        """
        if self.ivectors is None:
            raise NnetError("this pipeline has no i-vectors (--ivector-extraction-config)")
        first, last = self._taken, min(self.frames_ready, self.ivectors.frames_ready)
        rows = [self.ivectors.ivector(frame) for frame in range(first, last)]
        ivectors = np.array(rows, np.float32).reshape(len(rows), self.ivectors.dim)
        return np.concatenate((self._take(last - first), ivectors), axis=1)

    def freeze_cmvn(self) -> None:
        """From now on the network's input is normalized as its last frame was."""
        if self._cmvn is not None:
            self._cmvn.freeze()

    def state(self) -> AdaptationState | None:
        """What the speaker's next utterance begins with, for i-vectors."""
        return None if self.ivectors is None else self.ivectors.state()

    def cmvn_state(self) -> OnlineCmvnState | None:
        """The same for the normalization of the network's input."""
        return None if self._cmvn is None else self._cmvn.state()

    def _advance(self) -> None:
        frames = self._base.take()
        if self.ivectors is not None and len(frames):
            self.ivectors.accept(frames)
        new = [self._cmvn.accept(frames) if self._cmvn is not None else frames]
        if self._pitch is not None:
            new.append(self._pitch.take())
        for i, part in enumerate(new):
            self._waiting[i] = np.concatenate((self._waiting[i], part))

    def _take(self, count: int) -> Floats:
        taken = np.concatenate([frames[:count] for frames in self._waiting], axis=1)
        self._waiting = [frames[count:] for frames in self._waiting]
        self._taken += count
        return taken


def read_pipeline(path: str) -> FeaturePipeline:
    """The pipeline of a recognizer's folder or of a file such as `conf/online.conf`.

    A Kaldi folder has `conf/online.conf`; a Vosk folder `conf/mfcc.conf`, perhaps `ivector/`,
    `global_cmvn.stats` with `conf/online_cmvn.conf`, and `conf/pitch.conf`. Options for endpoints
    are left to who needs them.

    Raises:
        NnetError: a file is missing or wrong, or the files do not fit together.
    """
    if not Path(path).is_dir():
        file = OptionsFile.read(path)
        pipeline = make_pipeline(file)
        file.ignore("endpoint.")
        file.finish()
        return pipeline
    folder = Path(path)
    if (folder / "conf" / "online.conf").exists():
        return read_pipeline(str(folder / "conf" / "online.conf"))
    if not (folder / "conf" / "mfcc.conf").exists():
        raise NnetError(f"{path}: found neither conf/online.conf nor conf/mfcc.conf in the folder")
    return _vosk_pipeline(folder)


def base_config(path: str, kind: str) -> tuple[str, str]:
    """The kind of features and their configuration file, where `path` may be an `online.conf`."""
    file = OptionsFile.read(path)
    if not any(
        name in file for name in ("feature-type", "mfcc-config", "fbank-config", "plp-config")
    ):
        return kind, path
    files = file.take(PipelineFiles)
    config = _option(files, f"{files.feature_type}_config", file.name)
    if not config:
        raise NnetError(f"{path}: --{files.feature_type}-config is missing; expected: a file")
    return files.feature_type, config


def make_pipeline(file: OptionsFile) -> FeaturePipeline:
    """The pipeline that the options of an online configuration describe; see `read_pipeline`."""
    files = file.take(PipelineFiles)
    base = _base(files.feature_type, _option(files, f"{files.feature_type}_config", file.name))
    extraction = None
    if files.ivector_extraction_config:
        name = _option(files, "ivector_extraction_config", file.name)
        extraction = read_extraction(name)
    cmvn = _option(files, "cmvn_config", file.name)
    return FeaturePipeline(
        base,
        read_options(cmvn, OnlineCmvnOptions) if cmvn else None,
        _statistics(_option(files, "global_cmvn_stats", file.name)),
        _pitch(_option(files, "online_pitch_config", file.name)) if files.add_pitch else None,
        extraction,
        file.take(SilenceWeightingOptions, "ivector-silence-weighting."),
    )


def _option(files: PipelineFiles, name: str, place: str) -> str:
    """The file that an option names, if it is given."""
    value = getattr(files, name, "")
    return found_file(value, Path(place)) if value else ""


def _vosk_pipeline(folder: Path) -> FeaturePipeline:
    extraction = None
    if (folder / "ivector" / "final.ie").exists():
        extraction = read_extraction(folder / "ivector").with_options(max_count=VOSK_MAX_COUNT)
    cmvn, pitch = folder / "conf" / "online_cmvn.conf", folder / "conf" / "pitch.conf"
    statistics = folder / "global_cmvn.stats"
    normalized = statistics.exists()
    return FeaturePipeline(
        _base("mfcc", str(folder / "conf" / "mfcc.conf")),
        _cmvn_options(cmvn) if normalized else None,
        _statistics(str(statistics)) if normalized else None,
        _pitch(str(pitch)) if pitch.exists() else None,
        extraction,
        _vosk_silence(folder / "conf" / "model.conf"),
    )


def _vosk_silence(path: Path) -> SilenceWeightingOptions:
    """The phones that end utterances, with Vosk's weight."""
    if not path.exists():
        return SilenceWeightingOptions()
    silence = OptionsFile.read(str(path)).take(SilenceWeightingOptions, "endpoint.")
    return replace(silence, silence_weight=VOSK_SILENCE_WEIGHT)


def _cmvn_options(path: Path) -> OnlineCmvnOptions:
    return read_options(str(path), OnlineCmvnOptions) if path.exists() else OnlineCmvnOptions()


def _base(kind: str, config: str) -> SpectralFeatures:
    file = OptionsFile.read(config) if config else OptionsFile.parse("", f"--{kind}-config")
    features = make_features(kind, file)
    if not isinstance(features, SpectralFeatures):
        raise NnetError(f"--feature-type is '{kind}'; expected: mfcc, plp or fbank")
    return features


def _pitch(config: str) -> ProcessedPitch:
    file = OptionsFile.read(config) if config else OptionsFile.parse("", "--online-pitch-config")
    features = make_features("processed-pitch", file)
    if not isinstance(features, ProcessedPitch):
        raise NnetError(f"{config}: expected options of pitch features")
    return features


def _statistics(path: str) -> Doubles | None:
    return open_file(path).double_matrix().astype(np.float64) if path else None
