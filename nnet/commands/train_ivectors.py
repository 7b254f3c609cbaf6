"""`nnet train-ivectors`: features to an i-vector extractor.

A diagonal UBM and an i-vector extractor, as in Kaldi's recipes for online recognition.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument

from nnet.options import Option, missing
from nnet.runtime.options import DEVICE, NUM_THREADS


def train_ivectors(
    feats: Annotated[
        str, Argument(help="Features, an rspecifier such as scp:feats.scp, or a data folder.")
    ],
    out_dir: Annotated[Path, Argument(help="Folder for final.ie, final.dubm, final.mat, ...")],
    spk2utt: Annotated[
        str, Option("File of speakers and their utterances [of the data folder].")
    ] = "",
    lda_matrix: Annotated[
        str, Option("Transform of the spliced features [principal components].")
    ] = "",
    pca_dim: Annotated[int, Option("Principal components.", applies=missing("lda_matrix"))] = 40,
    splice: Annotated[str, Option("Frames before and after that are appended.")] = "3,3",
    online_cmvn_config: Annotated[str, Option("Options of online normalization.")] = "",
    num_gauss: Annotated[int, Option("Gaussians of the UBM.")] = 512,
    num_iters_init: Annotated[int, Option("Iterations of the UBM on frames in memory.")] = 20,
    num_iters_ubm: Annotated[int, Option("Iterations of the UBM on all frames.")] = 4,
    num_frames: Annotated[int, Option("Frames held in memory for these.")] = 500_000,
    ivector_dim: Annotated[int, Option("Dimension of the i-vectors.")] = 100,
    num_iters: Annotated[int, Option("Iterations of the extractor.")] = 10,
    gaussian_min_count: Annotated[
        float, Option("Gaussians of fewer frames (scaled) stay as they are.")
    ] = 100.0,
    posterior_scale: Annotated[float, Option("Weight of a frame.")] = 0.1,
    subsample: Annotated[int, Option("Use one of so many frames.", least=1)] = 2,
    srand: Annotated[int, Option("Seed of everything random.", names=("--srand", "--seed"))] = 0,
    device: Annotated[str, DEVICE] = "cpu",
    num_threads: Annotated[int, NUM_THREADS] = 0,
) -> None:
    """Trains an i-vector extractor, as Kaldi's recipes for online recognition do.

    A transform, a diagonal UBM and the extractor are estimated, each by passes over the features;
    the likelihood of each pass is shown. OUT_DIR is then what `nnet ivectors` takes.

    Example: nnet train-ivectors data/train exp/extractor --num-gauss 512 --ivector-dim 100
    """
    import torch

    from nnet.data.folder_reading import read_utterances_of_speakers
    from nnet.data.tables import random_access
    from nnet.modelfile.loading import read_matrix
    from nnet.runtime.device import select_device
    from nnet.speech.ivectors.extraction import IvectorOptions
    from nnet.speech.ivectors.training.diagonal_ubm import UbmOptions
    from nnet.speech.ivectors.training.extractor import ExtractorOptions
    from nnet.speech.ivectors.training.frames import TrainingData
    from nnet.speech.ivectors.training.recipe import RecipeOptions, train_extractor
    from nnet.speech.online_cmvn import OnlineCmvnOptions
    from nnet.speech.transforms import parse_splice
    from nnet.text.options_file import read_options

    options = RecipeOptions(
        splice=parse_splice(splice),
        cmvn=(
            read_options(online_cmvn_config, OnlineCmvnOptions)
            if online_cmvn_config
            else OnlineCmvnOptions()
        ),
        pca_dim=pca_dim,
        subsample=subsample,
        ubm=UbmOptions(
            num_gauss=num_gauss,
            num_frames=num_frames,
            num_iters_init=num_iters_init,
            num_iters=num_iters_ubm,
            seed=srand,
        ),
        extractor=ExtractorOptions(
            ivector_dim, num_iters, gaussian_min_count=gaussian_min_count, seed=srand
        ),
        ivectors=IvectorOptions(posterior_scale=posterior_scale),
    )
    folder = feats if os.path.isdir(feats) else ""
    table = random_access(f"scp:{folder}/feats.scp" if folder else feats)
    speakers: dict[str, tuple[str, ...]] = {name: (name,) for name in table}
    if spk2utt or folder:
        groups = read_utterances_of_speakers(spk2utt or f"{folder}/spk2utt")
        speakers = {
            speaker: tuple(name for name in names if name in table)
            for speaker, names in groups.items()
        }
    if num_threads:
        torch.set_num_threads(num_threads)
    train_extractor(
        TrainingData(table, speakers),
        out_dir,
        options,
        transform=read_matrix(lda_matrix) if lda_matrix else None,
        device=select_device(device),
        report=lambda line: print(f"nnet train-ivectors: {line}", file=sys.stderr),
    )
