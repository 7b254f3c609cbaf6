"""A whole training run: from a starting model and tables to a folder with the result."""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnet.errors import NnetError
from nnet.graph.network import Network
from nnet.modelfile.chain_examples import XENT
from nnet.modelfile.model import Model, write_model
from nnet.plan.implementations import kernels as known_kernels
from nnet.training.checkpoints.identity import Identity, differences, identity_of
from nnet.training.feeds.ports import (
    Ports,
    find_ports,
    is_log_softmax,
    linear_outputs,
    main_output,
    warn_of_unbounded_objectives,
)
from nnet.training.feeds.tables import Archives, Tables, example_sets, load_data
from nnet.training.lda import UnknownTransform
from nnet.training.options import TrainingOptions

if TYPE_CHECKING:  # tables and options are checked before torch is loaded
    from nnet.data.batches import Batch, Shape
    from nnet.data.corpus import Corpus
    from nnet.data.example_set import ExampleSet
    from nnet.data.minibatch import Minibatch
    from nnet.plan.request import Request
    from nnet.training.distribution import Processes
    from nnet.training.objectives import Objective
    from nnet.training.reports.records import Reporter
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
    transform: UnknownTransform | None = None,
) -> Path:
    """Trains `model` and returns the file of the trained one.

    Writes into `out_dir`: `final.raw` (or `final.mdl`, if there is a transition model),
    `checkpoints/`, `train.jsonl`, `train.log`, `curves.png` and, with TensorBoard, `tensorboard/`.

    Args:
        model: what training starts from.
        out_dir: is made if it is not there.
        data: tables of features and targets, or archives of examples.
        options: how to train.
        resume: go on from the newest checkpoint in `out_dir`, if there is one.
        transform: a component of the model that is to be estimated from the training data; it is
            also written to `lda.mat`.

    Raises:
        NnetError: network and data do not fit, a table is damaged, `out_dir` cannot be written or
            holds another run, or training diverged.
    """
    _check_folder(out_dir, resume)
    if options.bf16:
        from nnet.runtime.device import check_bf16

        check_bf16()
    sets: Sets
    if isinstance(data, Archives):
        outputs = tuple(node.name for node in model.network.outputs())
        sets = example_sets(data, options)
    else:
        ports = find_ports(model.network, data.outputs)
        outputs = _outputs_of_tables(model.network, ports, options)
        sets = load_data(data, ports, options)
    if options.den_fst is None:
        warn_of_unbounded_objectives(model.network, outputs)
    if transform is not None:
        network = _estimated(transform, model.network, out_dir, sets[0], options, resume)
        model = dataclasses.replace(model, network=network)
    processes = _join(options)
    identity = identity_of(model, sets[0], sets[1], options, processes.count)
    trainer = _make_trainer(model, out_dir, outputs, sets, options, identity, processes)
    if resume:
        _resume(trainer, out_dir, identity)
    _make_folder(out_dir)
    trainer.run()
    if not trainer.leads:
        return out_dir
    priors = _priors(model, trainer)
    return _write_results(dataclasses.replace(model, priors=priors), trainer, out_dir)


def _estimated(
    transform: UnknownTransform,
    network: Network,
    out_dir: Path,
    data: Corpus | ExampleSet,
    options: TrainingOptions,
    resume: bool,
) -> Network:
    """The network with its transform estimated, or as it was when the run began."""
    from nnet.training import input_transform as estimation

    matrix = estimation.read_transform(out_dir) if resume else None
    if matrix is None:
        _make_folder(out_dir)
        collator = functools.partial(_collator, output=estimation.OUTPUT, options=options)
        matrix = estimation.transform_of_data(transform, network, data, options, collator)
        estimation.write_transform(matrix, out_dir)
    return estimation.with_transform(network, transform.component, matrix)


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


def _join(options: TrainingOptions) -> Processes:
    from nnet.runtime.device import select_device
    from nnet.training.distribution import Processes

    device = select_device(options.device)
    return Processes.join(options.distributed, options.average_every, device)


def _make_trainer(
    model: Model,
    out_dir: Path,
    outputs: tuple[str, ...],
    sets: Sets,
    options: TrainingOptions,
    identity: Identity,
    processes: Processes,
) -> Trainer:
    import torch

    from nnet.data.corpus import Corpus
    from nnet.runtime.compiled import compile_network
    from nnet.runtime.device import select_device
    from nnet.training.checkpoints.random_state import seed_all
    from nnet.training.feeds.corpus import Feed
    from nnet.training.feeds.examples import ExampleFeed
    from nnet.training.scoring import Scorer
    from nnet.training.trainer import Trainer

    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    device = select_device(options.device)
    seed_all(options.seed)
    chain = options.den_fst is not None  # of its outputs, the regularizers are log-likelihoods
    compared = [name for name in outputs if name.endswith(XENT) or not chain]
    module = compile_network(
        model.network,
        outputs=outputs,
        log_likelihoods=linear_outputs(model.network, compared),
        kernels=options.kernels,
        memory_compression_level=options.memory_compression_level,
    )
    module = module.to(device)
    if options.dropout is not None:
        module.set_dropout_proportion(options.dropout)
    scorer = Scorer(module, _objective(model.network, outputs, options), bf16=options.bf16)

    @functools.cache
    def request_of(shape: Shape) -> Request:
        frames, *edges = shape
        step = options.frame_subsampling_factor
        return module.chunk_request(frames, subsampling=step, extra=options.context.of(*edges))

    def feed(data: Corpus | ExampleSet) -> Feed | ExampleFeed:
        if isinstance(data, Corpus):
            collate = _collator(data, request_of, outputs[0], options)
            return Feed(data, options.sampling, collate, device, options.num_workers)
        with_xent = options.chain.xent_regularize > 0
        workers = options.num_workers
        return ExampleFeed(data, model.network, device, with_xent=with_xent, workers=workers)

    train, valid = feed(sets[0]), None if sets[1] is None else feed(sets[1])
    reporters = _reporters(out_dir, options, identity) if processes.leads else []
    checkpoints = out_dir / CHECKPOINTS
    return Trainer(scorer, train, valid, options, checkpoints, identity, reporters, processes)


def _outputs_of_tables(network: Network, ports: Ports, options: TrainingOptions) -> tuple[str, ...]:
    """The outputs that the targets are for, and that by which LF-MMI is regularized."""
    xent = ports.output + XENT
    has_xent = any(node.name == xent for node in network.outputs())
    if options.den_fst is not None and options.chain.xent_regularize > 0 and has_xent:
        return ports.output, xent
    return ports.output, *ports.more


def _collator(
    corpus: Corpus, request_of: Callable[[Shape], Request], output: str, options: TrainingOptions
) -> Callable[[Batch], Minibatch]:
    from nnet.data.chain.collator import ChainCollator
    from nnet.data.chain.folder import ChainGraphs
    from nnet.data.chain.supervisor import Supervisor
    from nnet.data.minibatch import Collator

    if options.den_fst is None:
        return Collator(corpus, request_of)
    graphs = ChainGraphs.read(Path(options.den_fst).parent)
    return ChainCollator(corpus, Supervisor(graphs, options.tolerance), request_of, output)


def _objective(network: Network, outputs: tuple[str, ...], options: TrainingOptions) -> Objective:
    from nnet.training.lfmmi.graph import read_denominator
    from nnet.training.lfmmi.objective import ChainObjective
    from nnet.training.objectives import OutputObjectives

    if options.den_fst is None:
        return OutputObjectives.of(network, outputs)
    asked = known_kernels(options.kernels)
    transitions = read_denominator(options.den_fst, network)
    return ChainObjective(transitions, options.chain, None if asked == "auto" else asked)


def _reporters(out_dir: Path, options: TrainingOptions, identity: Identity) -> list[Reporter]:
    from nnet.training.reports.json_log import JsonLog
    from nnet.training.reports.nnet3_log import Nnet3Log
    from nnet.training.reports.progress import ProgressDisplay
    from nnet.training.reports.tensorboard import TensorBoardLog, tensorboard_is_installed

    events = out_dir / "train.jsonl"
    reporters: list[Reporter] = [
        JsonLog(events, identity),
        Nnet3Log(out_dir / "train.log", events, options.print_interval),
        ProgressDisplay(options.num_epochs),
    ]
    if options.tensorboard or (options.tensorboard is None and tensorboard_is_installed()):
        reporters.append(TensorBoardLog(out_dir / "tensorboard"))
    return reporters


def _resume(trainer: Trainer, out_dir: Path, identity: Identity) -> None:
    from nnet.training.checkpoints.checkpoint import read_newest

    def read() -> dict[str, Any] | None:
        state = read_newest(out_dir / CHECKPOINTS)
        changed = [] if state is None else list(differences(state["identity"], identity))
        if changed:
            raise NnetError(
                f"{out_dir} cannot be resumed, because the run is not the same:\n"
                + "\n".join(f"  {line}" for line in changed)
                + "\ngive the same network, data and options as before, or another OUT_DIR"
            )
        return state

    if not trainer.resume(read):
        log.warning("no checkpoint in %s: training starts from the beginning", out_dir)


def _priors(model: Model, trainer: Trainer) -> np.ndarray | None:
    """For an acoustic model whose output is a log-softmax, its mean posterior: Kaldi's priors."""
    output = main_output(model.network)
    if not model.is_acoustic or output is None or not is_log_softmax(model.network, output):
        return model.priors
    return trainer.average_posterior(output.name).float().numpy()


def _write_results(model: Model, trainer: Trainer, out_dir: Path) -> Path:
    from nnet.training.reports.curves import draw_curves

    kind = "mdl" if model.is_acoustic else "raw"
    final = out_dir / f"final.{kind}"
    write_model(dataclasses.replace(model, network=trainer.network()), final)
    draw_curves(trainer.history, out_dir / "curves.png", f"training of {out_dir.name}")
    return final
