"""An i-vector extractor with all that belongs to it (Kaldi's OnlineIvectorExtractionInfo)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import AdaptationState, OnlineCmvnState
from nnet.modelfile.gaussians import DiagonalGmm, read_diagonal_gmm
from nnet.modelfile.ivector_extractor import IvectorExtractor, read_ivector_extractor
from nnet.modelfile.loading import open_file, read_matrix
from nnet.speech.cmvn import check_statistics
from nnet.speech.ivectors.estimation import Projections, prior
from nnet.speech.online_cmvn import OnlineCmvnOptions
from nnet.speech.transforms import SpliceOptions, check_transform
from nnet.text.options_file import OptionsFile, read_options

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class IvectorOptions:
    """How i-vectors are estimated.

    Args:
        ivector_period: frames from one i-vector to the next.
        num_gselect: Gaussians for a frame.
        min_post: least posterior of a Gaussian.
        posterior_scale: weight of a frame, as neighbours are alike.
        max_count: frames (times posterior_scale) above which the prior grows with them; 0: never.
        num_cg_iters: iterations of conjugate gradients.
        use_most_recent_ivector: for a frame, use what is known at the time that it is asked for.
        greedy_ivector_extractor: use all frames that are there.
        max_remembered_frames: frames that an utterance of a speaker hands on to the next.
        online_cmvn_iextractor: estimate from normalized features.
    """

    ivector_period: int = 10
    num_gselect: int = 5
    min_post: float = 0.025
    posterior_scale: float = 0.1
    max_count: float = 0.0
    num_cg_iters: int = 15
    use_most_recent_ivector: bool = True
    greedy_ivector_extractor: bool = False
    max_remembered_frames: float = 1000.0
    online_cmvn_iextractor: bool = False

    def __post_init__(self) -> None:
        least = {
            "ivector-period": (self.ivector_period, 1),
            "num-gselect": (self.num_gselect, 1),
            "max-count": (self.max_count, 0),
            "max-remembered-frames": (self.max_remembered_frames, 0),
        }
        for name, (value, limit) in least.items():
            if value < limit:
                raise NnetError(f"--{name} is {value:g}; expected: at least {limit}")
        if not 0.0 <= self.min_post < 0.5:
            raise NnetError(f"--min-post is {self.min_post:g}; expected: 0 to below 0.5")
        if not 0.0 < self.posterior_scale <= 1.0:
            raise NnetError(
                f"--posterior-scale is {self.posterior_scale:g}; expected: above 0, at most 1"
            )


@dataclass(frozen=True)
class IvectorFiles:
    """The files of an extractor, as `conf/ivector_extractor.conf` names them."""

    splice_config: str = ""
    cmvn_config: str = ""
    lda_matrix: str = ""
    global_cmvn_stats: str = ""
    diag_ubm: str = ""
    ivector_extractor: str = ""


@dataclass(frozen=True, eq=False)
class IvectorExtraction:
    """All that i-vectors are estimated with.

    Args:
        options: how.
        splice: frames that the transform gets.
        cmvn: normalization of what posteriors are computed from.
        transform: LDA, (dim, spliced dim) or with a column of offsets.
        global_cmvn: CMVN statistics of all speakers, (2, feature_dim + 1).
        ubm: the Gaussians.
        projections: the linear model of their means, and what estimation needs of it.

    Raises:
        NnetError: the dimensions do not fit together.
    """

    options: IvectorOptions
    splice: SpliceOptions
    cmvn: OnlineCmvnOptions
    transform: Floats
    global_cmvn: Doubles
    ubm: DiagonalGmm
    projections: Projections

    def __post_init__(self) -> None:
        check_statistics(self.global_cmvn, None, "global_cmvn.stats")
        check_transform(self.transform, self.feature_dim * self.splice.width, "LDA matrix")
        rows = self.transform.shape[0]
        if not rows == self.ubm.dim == self.extractor.feature_dim:
            raise NnetError(
                f"the LDA matrix makes {rows} dimensions, the diagonal UBM has {self.ubm.dim} and "
                f"the i-vector extractor {self.extractor.feature_dim}; expected: equal numbers"
            )
        if len(self.ubm.weights) != self.extractor.gaussians:
            raise NnetError(
                f"the diagonal UBM has {len(self.ubm.weights)} Gaussians and the i-vector extractor"
                f" {self.extractor.gaussians}; expected: two of the same training"
            )

    @property
    def feature_dim(self) -> int:
        """Numbers in a frame of features."""
        return self.global_cmvn.shape[1] - 1

    @property
    def ivector_dim(self) -> int:
        """Numbers in an i-vector."""
        return self.extractor.ivector_dim

    @property
    def extractor(self) -> IvectorExtractor:
        """The linear model of the Gaussians' means."""
        return self.projections.extractor

    def initial_state(self) -> AdaptationState:
        """What is known about a speaker before the first utterance."""
        return AdaptationState(
            OnlineCmvnState(self.global_cmvn), prior(self.extractor, self.options.max_count)
        )

    def with_options(self, **changes: Any) -> IvectorExtraction:
        """The same with some other options."""
        return replace(self, options=replace(self.options, **changes))

    def check_features(self, dim: int, name: str) -> None:
        """Raises NnetError unless frames have the dimension that the extractor was trained on."""
        if dim != self.feature_dim:
            raise NnetError(
                f"{name}: features of {dim} dimensions; the i-vector extractor was trained on "
                f"{self.feature_dim}"
            )


def read_extraction(path: str | os.PathLike[str]) -> IvectorExtraction:
    """An extractor from a folder or from a configuration file such as `ivector_extractor.conf`.

    A folder has `final.ie`, `final.dubm`, `final.mat`, `global_cmvn.stats`, perhaps
    `online_cmvn.conf`, and `splice.conf` or `splice_opts`. See `found_file` for how a configuration
    file names its files.

    Raises:
        NnetError: a file is missing or damaged, or the files do not fit together.
    """
    if os.path.isdir(path):
        return _load(_files_of_folder(Path(path)), IvectorOptions(), str(path))
    config = OptionsFile.read(os.fspath(path))
    files, options = config.take(IvectorFiles), config.take(IvectorOptions)
    config.finish()
    found = {name: found_file(value, Path(path)) for name, value in vars(files).items()}
    return _load(IvectorFiles(**found), options, str(path))


def _files_of_folder(folder: Path) -> IvectorFiles:
    def optional(*names: str) -> str:
        return next((str(folder / name) for name in names if (folder / name).exists()), "")

    return IvectorFiles(
        optional("splice.conf", "splice_opts"),
        optional("online_cmvn.conf"),
        str(folder / "final.mat"),
        str(folder / "global_cmvn.stats"),
        str(folder / "final.dubm"),
        str(folder / "final.ie"),
    )


def found_file(name: str, config: Path) -> str:
    """A file named in a configuration file.

    It is looked for in the present folder, in the configuration file's, and in that above it; and
    there too by the end of its path, as folders are often copied from where they were made.
    """
    if not name or Path(name).exists():
        return name
    parts = Path(name).parts
    for first in range(len(parts)):
        for folder in (config.parent, config.parent.parent):
            place = folder.joinpath(*parts[first:])
            if place.is_file():
                return str(place)
    return name


def _load(files: IvectorFiles, options: IvectorOptions, name: str) -> IvectorExtraction:
    for option in ("lda_matrix", "global_cmvn_stats", "diag_ubm", "ivector_extractor"):
        if not getattr(files, option):
            raise NnetError(f"{name}: --{option.replace('_', '-')} is missing; expected: a file")
    cmvn = read_options(files.cmvn_config, OnlineCmvnOptions) if files.cmvn_config else None
    try:
        return IvectorExtraction(
            options,
            _splice(files.splice_config),
            cmvn or OnlineCmvnOptions(),
            read_matrix(files.lda_matrix),
            open_file(files.global_cmvn_stats).double_matrix().astype(np.float64),
            read_diagonal_gmm(files.diag_ubm),
            Projections(read_ivector_extractor(files.ivector_extractor)),
        )
    except NnetError as error:
        raise NnetError(f"{name}: {error}") from None


def _splice(path: str) -> SpliceOptions:
    """Splicing options: a configuration file, or `splice_opts` with all of them in one line."""
    if not path:
        return SpliceOptions()
    file = OptionsFile.read_words(path)
    options = file.take(SpliceOptions)
    file.finish()
    return options
