"""`nnet train`: train a network from features and targets.

What nnet3-train and steps/nnet3/train_dnn.py do, from features and targets.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Option, missing
from nnet.training.feeds.tables import Archives, Tables
from nnet.training.lda import EstimationOptions
from nnet.training.options import TrainingOptions

if TYPE_CHECKING:
    from nnet.modelfile.model import Model
    from nnet.training.lda import UnknownTransform


def train(
    net: Annotated[str, Argument(help="An xconfig, a config, or a model (.raw or .mdl).")],
    out_dir: Annotated[Path, Argument(help="Folder for the trained model, checkpoints and logs.")],
    tables: Tables,
    archives: Archives,
    options: TrainingOptions,
    estimation: EstimationOptions,
    resume: Annotated[bool, Option("Go on from the newest checkpoint in OUT_DIR.")] = False,
    force: Annotated[
        bool,
        Option("Delete the results of another run in OUT_DIR first.", applies=missing("resume")),
    ] = False,
) -> None:
    """Trains a network from features and targets, or from examples.

    Chunks are drawn at random with their context from the utterances; nothing is stored on disk.
    Several processes train together under torchrun, each on its part of the minibatches.
    OUT_DIR gets final.raw (final.mdl with new priors if NET is an .mdl), checkpoints/, train.jsonl,
    train.log (in nnet3-train's words), curves.png, and lda.mat if a transform was estimated.

    Example: nnet train tdnnf.xconfig exp/tdnnf --feats scp:feats.scp --targets ark:ali.ark
    """
    from nnet.training.session import train as run

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    data = _data(tables, archives)
    model, transform = _starting_model(net, options.seed, estimation)
    print(run(model, out_dir, data, options, resume=resume, force=force, transform=transform))


def _data(tables: Tables, archives: Archives) -> Tables | Archives:
    given = {"--feats": tables.feats, "--targets": tables.targets, "--egs": archives.egs}
    names = [name for name, value in given.items() if value]
    if names == ["--egs"]:
        return archives
    if names == ["--feats", "--targets"]:
        return tables
    found = " and ".join(names) or "none of them"
    raise NnetError(f"given: {found}; expected: --feats and --targets, or --egs")


def _starting_model(
    path: str, seed: int, estimation: EstimationOptions
) -> tuple[Model, UnknownTransform | None]:
    """A model as it is, or a network with initial parameters from a config or an xconfig; and the
    transform in it that is yet to be estimated from data, if there is one."""
    import numpy as np

    from nnet.commands.init import warn_of_orphans
    from nnet.modelfile.model import Model, read_model
    from nnet.modelfile.networks import parse_network
    from nnet.text.files import read_text

    if _is_model(path):
        model, layer = read_model(path), None
    else:
        parsed = parse_network(read_text(path), path)
        layer = parsed.fixed_affine_layer() if estimation.wanted else None
        if layer and not estimation.lda and Path(layer.affine_transform_file).exists():
            layer = None
        rng = np.random.default_rng(seed)
        model = Model(parsed.network(rng, zero_transform=layer is not None))
        warn_of_orphans(model.network)
    if layer is None:
        estimation.check_unused(path)
        return model, None
    return model, estimation.transform(layer.name, layer.delay)


def _is_model(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise NnetError(f"cannot read '{path}': {error.strerror}") from None
    return start.startswith((b"\0B", b"<Nnet3>", b"<TransitionModel>"))
