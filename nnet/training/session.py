"""A whole training run: from a starting model and tables to a folder with the result."""

from __future__ import annotations

import dataclasses
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
from nnet.training.feeds.tables import Archives, Tables, example_sets, load_data
from nnet.training.lda import UnknownTransform
from nnet.training.options import TrainingOptions
from nnet.training.ports import (
    Ports,
    find_ports,
    is_log_softmax,
    linear_outputs,
    main_output,
    warn_of_unbounded_objectives,
)
from nnet.training.run_folder import CHECKPOINTS, RunFolder

if TYPE_CHECKING:  # tables and options are checked before torch is loaded
    from nnet.data.batches import Batch, Shape
    from nnet.data.corpus import Corpus
    from nnet.data.example_set import ExampleSet
    from nnet.data.minibatch import Minibatch
    from nnet.plan.request import Request
    from nnet.runtime.compiled import CompiledNetwork
    from nnet.training.distribution import Processes
    from nnet.training.objectives import Objective
    from nnet.training.reports.records import Reporter
    from nnet.training.trainer import Trainer

log = logging.getLogger(__name__)

Sets: TypeAlias = "tuple[Corpus | ExampleSet, Corpus | ExampleSet | None]"
"""Training and validation data."""


def train(
    model: Model,
    out_dir: Path,
    data: Tables | Archives,
    options: TrainingOptions,
    resume: bool = False,
    transform: UnknownTransform | None = None,
    *,
    force: bool = False,
) -> Path:
    """Trains `model` and returns the file of the trained one.

    Writes into `out_dir`: `final.raw` (or `final.mdl`, if there is a transition model),
    `checkpoints/`, `train.jsonl`, `train.log`, `curves.png` and, with TensorBoard, `tensorboard/`.

    Args:
        model: what training starts from.
        out_dir: is made if it is not there.
        data: tables of features and targets, or archives of examples.
        options: how to train.
        resume: go on from the newest checkpoint in `out_dir`, if there is one; nothing is changed
            if the run is finished.
        transform: a component of the model that is to be estimated from the training data; it is
            also written to `lda.mat`.
        force: delete the results of another run in `out_dir`.

    Raises:
        NnetError: network and data do not fit, a table is damaged, `out_dir` cannot be written or
            holds another run, or training diverged.
    """
    leads = os.environ.get("RANK", "0") == "0"  # as torchrun starts processes
    with RunFolder(out_dir, resume=resume, force=force, leads=leads) as folder:
        return _train_in(folder, model, data, options, resume, transform)


def _train_in(
    folder: RunFolder,
    model: Model,
    data: Tables | Archives,
    options: TrainingOptions,
    resume: bool,
    transform: UnknownTransform | None,
) -> Path:
    if options.bf16:
        from nnet.runtime.device import check_bf16

        check_bf16()
    sets: Sets
    if isinstance(data, Archives):
        outputs = tuple(node.name for node in model.network.outputs())
        sets = example_sets(data, options)
        _check_first_examples(sets, model.network, options)
    else:
        ports = find_ports(model.network, data.outputs)
        outputs = _outputs_of_tables(model.network, ports, options)
        sets = load_data(data, ports, options)
    if options.den_fst is None:
        warn_of_unbounded_objectives(model.network, outputs)
    if transform is not None:
        network = _estimated(transform, model.network, folder, sets[0], options, resume)
        model = dataclasses.replace(model, network=network)
    processes = _join(options)
    identity = identity_of(model, sets[0], sets[1], options, processes.count)
    trainer = _make_trainer(model, folder.path, outputs, sets, options, identity, processes)
    folder.claim()
    if resume:
        _resume(trainer, folder, identity)
        if trainer.leads and trainer.is_done and folder.final:
            return folder.final
    trainer.run()
    if not trainer.leads:
        return folder.path
    priors = _priors(model, trainer)
    return _write_results(dataclasses.replace(model, priors=priors), trainer, folder.path)


def _check_first_examples(sets: Sets, network: Network, options: TrainingOptions) -> None:
    """Raises NnetError if the first examples do not fit the network, before anything is made."""
    import torch

    from nnet.data.example_set import ExampleSet
    from nnet.training.feeds.examples import ExampleFeed

    with_xent = options.den_fst is not None and options.chain.xent_regularize > 0
    for examples in sets:
        if isinstance(examples, ExampleSet):
            feed = ExampleFeed(examples, network, torch.device("cpu"), with_xent=with_xent)
            with feed.minibatches(feed.whole()[:1]) as minibatches:
                next(minibatches)


def _estimated(
    transform: UnknownTransform,
    network: Network,
    folder: RunFolder,
    data: Corpus | ExampleSet,
    options: TrainingOptions,
    resume: bool,
) -> Network:
    """The network with its transform estimated, or as it was when the run began."""
    from nnet.training import input_transform as estimation

    matrix = estimation.read_transform(folder.path) if resume else None
    if matrix is None:
        folder.claim()
        collator = functools.partial(_collator, output=estimation.OUTPUT, options=options)
        matrix = estimation.transform_of_data(transform, network, data, options, collator)
        if folder.leads:
            estimation.write_transform(matrix, folder.path)
    return estimation.with_transform(network, transform.component, matrix)


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
    from nnet.training.feeds.corpus import Feed
    from nnet.training.feeds.examples import ExampleFeed
    from nnet.training.random_state import seed_all
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
    _check_dropout(module, options)
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


def _check_dropout(module: CompiledNetwork, options: TrainingOptions) -> None:
    """Raises NnetError if an option about dropout is given, but nothing drops out."""
    from nnet.modules.dropout import RandomModule

    given = {"--dropout": options.dropout, "--dropout-schedule": options.dropout_schedule}
    if any(isinstance(submodule, RandomModule) for submodule in module.modules()):
        return
    for name, value in given.items():
        if value is not None:
            raise NnetError(
                f"{name} has no effect here; it applies to networks with dropout components"
            )


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
    if graphs.num_pdfs != corpus.sources.output_dim:
        raise NnetError(
            f"the graphs beside {options.den_fst} are for {graphs.num_pdfs} pdfs, the network's "
            f"output has dimension {corpus.sources.output_dim}; make both from the same tree"
        )
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


def _resume(trainer: Trainer, folder: RunFolder, identity: Identity) -> None:
    from nnet.training.checkpoints.checkpoint import check_state, read_newest

    def check(state: dict[str, Any]) -> None:
        if state.get("identity") == identity:  # the state of another run has other shapes
            check_state(state, trainer.state())

    def read() -> dict[str, Any] | None:
        state = read_newest(folder.checkpoints, check)
        changed = [] if state is None else list(differences(state.get("identity", {}), identity))
        if changed:
            raise NnetError(
                f"{folder.path} cannot be resumed, because the run is not the same:\n"
                + "\n".join(f"  {line}" for line in changed)
                + "\ngive the same network, data and options as before, or another OUT_DIR"
            )
        return state

    if not trainer.resume(read):
        log.warning("no checkpoint in %s: training starts from the beginning", folder.path)


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
    draw_curves(trainer.history, out_dir / "curves.png", f"training of {out_dir.name}")
    write_model(dataclasses.replace(model, network=trainer.network()), final)  # last: all is done
    return final
