"""A whole training run: from a starting model and tables to a folder with the result."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nnet.errors import NnetError
from nnet.modelfile.model import Model, write_model
from nnet.training.identity import Identity, differences, identity_of
from nnet.training.options import TrainingOptions
from nnet.training.ports import Ports, find_ports
from nnet.training.tables import Archives, Tables, example_sets, load_data

if TYPE_CHECKING:  # tables and options are checked before torch is loaded
    from nnet.data.corpus import Corpus
    from nnet.data.example_set import ExampleSet
    from nnet.training.records import Reporter
    from nnet.training.trainer import Trainer

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"

Sets: TypeAlias = "tuple[Corpus | ExampleSet, Corpus | ExampleSet | None]"
"""Training and validation data."""


def train(
    model: Model,
    out_dir: Path,
    data: Tables | Archives,
    options: TrainingOptions,
    resume: bool = False,
) -> Path:
    """Trains `model` and returns the file of the trained one.

    Writes into `out_dir`: `final.raw` (or `final.mdl`, if there is a transition model),
    `checkpoints/`, `train.jsonl`, `curves.png` and, with TensorBoard, `tensorboard/`.

    Args:
        model: what training starts from.
        out_dir: is made if it is not there.
        data: tables of features and targets, or archives of examples.
        options: how to train.
        resume: go on from the newest checkpoint in `out_dir`, if there is one.

    Raises:
        NnetError: network and data do not fit, a table is damaged, `out_dir` cannot be written or
            holds another run, or training diverged.
    """
    _check_folder(out_dir, resume)
    ports = find_ports(model.network)
    sets: Sets
    if isinstance(data, Archives):
        sets = example_sets(data, options)
    else:
        sets = load_data(data, ports, options)
    identity = identity_of(model, sets[0], sets[1], options)
    trainer = _make_trainer(model, out_dir, ports, sets, options, identity)
    if resume:
        _resume(trainer, out_dir, identity)
    _make_folder(out_dir)
    trainer.run()
    if not trainer.leads:
        return out_dir
    priors = _priors(model, ports, trainer)
    return _write_results(dataclasses.replace(model, priors=priors), trainer, out_dir)


def _check_folder(out_dir: Path, resume: bool) -> None:
    """Raises NnetError if the folder cannot be made or holds another run; makes nothing yet."""
    checkpoints = out_dir / CHECKPOINTS
    try:
        existing = next(p for p in (checkpoints, *checkpoints.absolute().parents) if p.exists())
    except OSError as error:
        raise _cannot_make(out_dir, error.strerror) from error
    if not existing.is_dir():
        raise _cannot_make(out_dir, os.strerror(errno.ENOTDIR))
    if not os.access(existing, os.W_OK):
        raise NnetError(f"{out_dir}: cannot write into this folder; choose another OUT_DIR")
    if not resume and any(checkpoints.glob("*.safetensors")):
        raise NnetError(
            f"{out_dir} holds the checkpoints of an earlier run; go on with it with --resume, "
            "delete it, or choose another OUT_DIR"
        )


def _make_folder(out_dir: Path) -> None:
    try:
        (out_dir / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(out_dir, error.strerror) from error


def _cannot_make(out_dir: Path, reason: str | None) -> NnetError:
    return NnetError(f"{out_dir}: cannot make this folder: {reason}; choose another OUT_DIR")


def _make_trainer(
    model: Model,
    out_dir: Path,
    ports: Ports,
    sets: Sets,
    options: TrainingOptions,
    identity: Identity,
) -> Trainer:
    import torch

    from nnet.data.corpus import Corpus
    from nnet.modules.compiled import compile_network
    from nnet.modules.device import select_device
    from nnet.training.distribution import Processes
    from nnet.training.example_feed import ExampleFeed
    from nnet.training.feed import Feed
    from nnet.training.random_state import seed_all
    from nnet.training.scoring import Scorer
    from nnet.training.trainer import Trainer

    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    device = select_device(options.device)
    seed_all(options.seed)
    module = compile_network(model.network, outputs=(ports.output,)).to(device)
    if options.dropout is not None:
        module.set_dropout_proportion(options.dropout)
    subsampling = options.frame_subsampling_factor
    scorer = Scorer(module, ports.output, ports.objective, subsampling, options.bf16)

    def feed(data: Corpus | ExampleSet) -> Feed | ExampleFeed:
        if isinstance(data, Corpus):
            return Feed(data, options.sampling, scorer.request_of, device)
        return ExampleFeed(data, model.network, ports.output, device)

    processes = Processes.join(options.distributed, options.average_every, device)
    train, valid = feed(sets[0]), None if sets[1] is None else feed(sets[1])
    reporters = _reporters(out_dir, options, identity) if processes.leads else []
    checkpoints = out_dir / CHECKPOINTS
    return Trainer(scorer, train, valid, options, checkpoints, identity, reporters, processes)


def _reporters(out_dir: Path, options: TrainingOptions, identity: Identity) -> list[Reporter]:
    from nnet.training.json_log import JsonLog
    from nnet.training.progress import ProgressDisplay
    from nnet.training.tensorboard import TensorBoardLog, tensorboard_is_installed

    reporters: list[Reporter] = [
        JsonLog(out_dir / "train.jsonl", identity),
        ProgressDisplay(options.num_epochs),
    ]
    if options.tensorboard or (options.tensorboard is None and tensorboard_is_installed()):
        reporters.append(TensorBoardLog(out_dir / "tensorboard"))
    return reporters


def _resume(trainer: Trainer, out_dir: Path, identity: Identity) -> None:
    from nnet.training.checkpoint import read_newest

    state = read_newest(out_dir / CHECKPOINTS)
    if state is None:
        log.warning("no checkpoint in %s: training starts from the beginning", out_dir)
        return
    changed = list(differences(state["identity"], identity))
    if changed:
        raise NnetError(
            f"{out_dir} cannot be resumed, because the run is not the same:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\ngive the same network, data and options as before, or another OUT_DIR"
        )
    trainer.set_state(state)


def _priors(model: Model, ports: Ports, trainer: Trainer) -> np.ndarray | None:
    """For an acoustic model whose output is a log-softmax, its mean posterior: Kaldi's priors."""
    if not (model.is_acoustic and ports.gives_log_probs):
        return model.priors
    return trainer.average_posterior().float().numpy()


def _write_results(model: Model, trainer: Trainer, out_dir: Path) -> Path:
    from nnet.training.curves import draw_curves

    kind = "mdl" if model.is_acoustic else "raw"
    final = out_dir / f"final.{kind}"
    write_model(dataclasses.replace(model, network=trainer.network()), final)
    draw_curves(trainer.history, out_dir / "curves.png", f"training of {out_dir.name}")
    return final
