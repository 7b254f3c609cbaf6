"""`nnet train`: what nnet3-train and steps/nnet3/train_dnn.py do, from features and targets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nnet.commands.options import (
    CHAIN_FRAMES,
    Implementations,
    Ivectors,
    LeakyHmmCoefficient,
    OnlineIvectorPeriod,
    OnlineIvectors,
    OutputPenalty,
    Threads,
    frame_counts,
)
from nnet.errors import NnetError

if TYPE_CHECKING:
    from nnet.modelfile.model import Model
    from nnet.xconfig.fixed import FixedAffineLayer


def train(
    net: Annotated[str, Argument(help="An xconfig, a config, or a model (.raw or .mdl).")],
    out_dir: Annotated[Path, Argument(help="Folder for the trained model, checkpoints and logs.")],
    feats: Annotated[str, Option(help="Rspecifier of training features.")] = "",
    targets: Annotated[
        list[str] | None,
        Option(
            help="Rspecifier of targets: alignments, posteriors or matrices; several times as "
            "OUTPUT=RSPECIFIER for several outputs."
        ),
    ] = None,
    egs: Annotated[
        list[str] | None,
        Option(help="Rspecifier of examples instead of --feats; may be given several times."),
    ] = None,
    den_fst: Annotated[
        str,
        Option(
            help="Denominator graph, for LF-MMI: --egs are chain examples, or --targets are phones "
            "with lengths and the graph's folder is one that nnet chain-prepare has made."
        ),
    ] = "",
    leaky_hmm_coefficient: LeakyHmmCoefficient = 0.1,
    xent_regularize: Annotated[
        float, Option(help="LF-MMI: scale of the cross-entropy of output-xent, if there is one.")
    ] = 0.1,
    l2_regularize: OutputPenalty = 0.0,
    out_of_range_regularize: Annotated[
        float, Option(help="LF-MMI: penalty on outputs beyond +-30.")
    ] = 0.01,
    apply_deriv_weights: Annotated[
        bool, Option(help="LF-MMI: use the examples' derivative weights.")
    ] = False,
    left_tolerance: Annotated[
        int, Option(help="LF-MMI from --feats: frames that a phone may begin before its place.")
    ] = 5,
    right_tolerance: Annotated[
        int, Option(help="LF-MMI from --feats: frames that a phone may end after its place.")
    ] = 5,
    ali_model: Annotated[
        str,
        Option(help="LF-MMI: --targets are transition-ids of this model, not phones with lengths."),
    ] = "",
    valid_egs: Annotated[str, Option(help="Rspecifier of validation examples.")] = "",
    egs_minibatch_size: Annotated[
        str, Option(help="Examples in a minibatch, in the forms of nnet3-merge-egs.")
    ] = "128,1:64",
    egs_buffer_size: Annotated[int, Option(help="Examples held for shuffling.")] = 5000,
    ivectors: Ivectors = "",
    online_ivectors: OnlineIvectors = "",
    online_ivector_period: OnlineIvectorPeriod = 10,
    valid_feats: Annotated[str, Option(help="Rspecifier of validation features.")] = "",
    valid_targets: Annotated[
        list[str] | None, Option(help="Rspecifier of validation targets, as --targets.")
    ] = None,
    valid_ivectors: Annotated[str, Option(help="As --ivectors, for validation.")] = "",
    valid_online_ivectors: Annotated[str, Option(help="As --online-ivectors.")] = "",
    valid_share: Annotated[
        float, Option(help="Share of the training utterances to hold out without --valid-feats.")
    ] = 0.05,
    lda: Annotated[
        bool | None,
        Option(
            "--lda/--no-lda",
            help="Estimate the transform of NET's fixed-affine-layer from the training data "
            "[if its affine-transform-file is not there].",
        ),
    ] = None,
    lda_opts: Annotated[
        str, Option(help="Such as '--dim=40 --within-class-factor=0.0001 --max-singular-value=5'.")
    ] = "",
    rand_prune: Annotated[
        float, Option(help="Weight with which frames are drawn for that transform; 0: all are.")
    ] = 4.0,
    num_epochs: Annotated[int, Option(help="Times that the training data are seen.")] = 15,
    minibatch_size: Annotated[int, Option(help="Chunks of the first width in a minibatch.")] = 8,
    chunk_width: Annotated[
        str,
        Option(
            help="Frames per chunk: the usual width, then others for what is left "
            "[150,110,100; with --den-fst 140,100,160]."
        ),
    ] = "",
    chunk_left_context: Annotated[
        int,
        Option(help="Frames before each chunk beyond the network's own context; 40 for LSTMs."),
    ] = 0,
    chunk_right_context: Annotated[
        int, Option(help="Frames after each chunk beyond that; 40 for BLSTMs.")
    ] = 0,
    chunk_left_context_initial: Annotated[
        int, Option(help="The same for the first chunk of an utterance; negative: no other.")
    ] = -1,
    chunk_right_context_final: Annotated[
        int, Option(help="The same for the last chunk of an utterance; negative: no other.")
    ] = -1,
    frame_subsampling_factor: Annotated[
        int | None, Option(help="Input frames per output frame [1; with --den-fst 3].")
    ] = None,
    optimizer: Annotated[
        str,
        Option(help="adamw, sgd or natural-gradient [the last with --egs, else adamw]."),
    ] = "",
    initial_effective_lrate: Annotated[
        float | None,
        Option(help="Learning rate at the start [adamw 0.002, sgd 0.3, natural 0.0015]."),
    ] = None,
    final_effective_lrate: Annotated[
        float | None,
        Option(help="Learning rate at the end [adamw 2e-5, sgd 0.03, natural 1.5e-4]."),
    ] = None,
    schedule: Annotated[
        str | None, Option(help="cosine or exponential [adamw cosine, others exponential].")
    ] = None,
    warmup: Annotated[
        float | None,
        Option(help="Share of training in which the rate rises [adamw 0.05, others 0]."),
    ] = None,
    momentum: Annotated[
        float | None, Option(help="Momentum [sgd 0.9, natural-gradient 0].")
    ] = None,
    weight_decay: Annotated[
        float | None, Option(help="Decay of matrices, decoupled in adamw [adamw 0.05, sgd 0].")
    ] = None,
    max_grad_norm: Annotated[float, Option(help="Clip gradients to this norm; 0: never.")] = 5.0,
    max_param_change: Annotated[
        float, Option(help="natural-gradient: largest change in a minibatch; 0: no limit.")
    ] = 2.0,
    l2_regularize_factor: Annotated[
        float, Option(help="natural-gradient: multiplies the components' l2-regularize.")
    ] = 1.0,
    backstitch_training_scale: Annotated[
        float, Option(help="natural-gradient: backstitch; 0: none.")
    ] = 0.0,
    backstitch_training_interval: Annotated[
        int, Option(help="Backstitch in every so many minibatches.")
    ] = 1,
    proportional_shrink: Annotated[
        float,
        Option(help="Scale parameters by 1 minus this times the rate before each iteration."),
    ] = 0.0,
    shrink_value: Annotated[
        float, Option(help="Scale them by this where sigmoids and tanhs are saturated; 1: never.")
    ] = 1.0,
    shrink_saturation_threshold: Annotated[
        float, Option(help="Saturation, 0 to 1, above which --shrink-value is used.")
    ] = 0.4,
    minibatches_per_iter: Annotated[
        int, Option(help="Minibatches in an iteration of the shrink options; 0: an epoch.")
    ] = 0,
    first_iter_minibatches: Annotated[
        int,
        Option(
            help="Begin with so many minibatches in halves, --max-param-change divided by sqrt(2) "
            "and, where processes are averaged, the best one's model, as train.py's iteration 0."
        ),
    ] = 0,
    dropout_schedule: Annotated[
        str | None, Option(help="Such as '0,0@0.20,0.5@0.5,0', with PATTERN= in front or not.")
    ] = None,
    dropout: Annotated[
        float | None, Option(help="Dropout proportion of all dropout components.")
    ] = None,
    srand: Annotated[int, Option("--srand", "--seed", help="Seed of everything random.")] = 0,
    device: Annotated[str, Option(help="cpu, cuda or cuda:N.")] = "cpu",
    kernels: Implementations = "auto",
    bf16: Annotated[bool, Option("--bf16", help="Compute in bfloat16, update in float32.")] = False,
    cuda_graph: Annotated[
        bool,
        Option(
            "--cuda-graph", help="natural-gradient on a GPU: launch each step as one CUDA graph."
        ),
    ] = False,
    memory_compression_level: Annotated[
        int, Option(help="2: keep what the derivative needs in 16 bits; 1, 0: as it is.")
    ] = 1,
    distributed: Annotated[
        str, Option(help="Under torchrun: sum gradients in each step, or average parameters.")
    ] = "sum",
    average_every: Annotated[
        int, Option(help="Minibatches from one average of parameters to the next.")
    ] = 100,
    num_threads: Threads = 0,
    num_workers: Annotated[
        int, Option(help="Processes that make minibatches; 0: a thread of this one.")
    ] = 0,
    memory: Annotated[float, Option(help="GiB of data to hold; larger sets are streamed.")] = 4.0,
    valid_every: Annotated[
        int, Option(help="Validate also every so many minibatches; 0: after epochs alone.")
    ] = 0,
    checkpoint_every: Annotated[
        int, Option(help="Write a checkpoint also every so many minibatches.")
    ] = 0,
    keep_checkpoints: Annotated[int, Option(help="Checkpoints to keep.")] = 3,
    max_models_combine: Annotated[
        int, Option(help="Average up to so many of the last checkpoints, by --valid objective.")
    ] = 0,
    resume: Annotated[
        bool, Option("--resume", help="Go on from the newest checkpoint in OUT_DIR.")
    ] = False,
    print_interval: Annotated[
        int, Option(help="Minibatches from one line about an output in train.log to the next.")
    ] = 100,
    tensorboard: Annotated[
        bool | None, Option(help="Write TensorBoard events [if tensorboard is installed].")
    ] = None,
) -> None:
    """Trains a network from features and targets, or from examples.

    Chunks are drawn at random with their context from the utterances; nothing is stored on disk.
    Several processes train together under torchrun, each on its part of the minibatches.
    OUT_DIR gets final.raw (final.mdl with new priors if NET is an .mdl), checkpoints/, train.jsonl,
    train.log (in nnet3-train's words), curves.png, and lda.mat if a transform was estimated.

    Example: nnet train tdnnf.xconfig exp/tdnnf --feats scp:feats.scp --targets ark:ali.ark
    """
    from nnet.commands.notices import say_if_slow
    from nnet.training.feeds.tables import Archives, Tables, targets_by_output
    from nnet.training.lda import TransformOptions, UnknownTransform
    from nnet.training.lfmmi.options import ChainOptions
    from nnet.training.options import TrainingOptions
    from nnet.training.session import train as run

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    options = TrainingOptions(
        num_epochs=num_epochs,
        minibatch_size=minibatch_size,
        chunk_width=frame_counts("--chunk-width", chunk_width or _usual_widths(den_fst)),
        chunk_left_context=chunk_left_context,
        chunk_right_context=chunk_right_context,
        chunk_left_context_initial=chunk_left_context_initial,
        chunk_right_context_final=chunk_right_context_final,
        frame_subsampling_factor=_factor(frame_subsampling_factor, den_fst),
        optimizer=optimizer or ("natural-gradient" if egs else "adamw"),
        initial_effective_lrate=initial_effective_lrate,
        final_effective_lrate=final_effective_lrate,
        schedule=schedule,
        warmup=warmup,
        momentum=momentum,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        max_param_change=max_param_change,
        l2_regularize_factor=l2_regularize_factor,
        backstitch_training_scale=backstitch_training_scale,
        backstitch_training_interval=backstitch_training_interval,
        proportional_shrink=proportional_shrink,
        shrink_value=shrink_value,
        shrink_saturation_threshold=shrink_saturation_threshold,
        minibatches_per_iter=minibatches_per_iter,
        first_iter_minibatches=first_iter_minibatches,
        dropout_schedule=dropout_schedule,
        dropout=dropout,
        valid_share=valid_share,
        valid_every=valid_every,
        seed=srand,
        bf16=bf16,
        memory_compression_level=memory_compression_level,
        cuda_graph=cuda_graph,
        distributed=distributed,
        average_every=average_every,
        device=device,
        kernels=kernels,
        num_threads=num_threads,
        num_workers=num_workers,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=max(keep_checkpoints, max_models_combine),
        max_models_combine=max_models_combine,
        print_interval=print_interval,
        tensorboard=tensorboard,
        den_fst=den_fst or None,
        chain=ChainOptions(
            l2_regularize=l2_regularize,
            out_of_range_regularize=out_of_range_regularize,
            leaky_hmm_coefficient=leaky_hmm_coefficient,
            xent_regularize=xent_regularize,
            apply_deriv_weights=apply_deriv_weights,
            left_tolerance=left_tolerance,
            right_tolerance=right_tolerance,
        ),
    )
    data: Tables | Archives
    if bool(egs) == bool(feats or targets) or bool(feats) != bool(targets):
        given = {"--feats": feats, "--targets": targets, "--egs": egs}
        found = " and ".join(name for name, value in given.items() if value) or "none of them"
        raise NnetError(f"given: {found}; expected: --feats and --targets, or --egs")
    if egs:
        data = Archives(tuple(egs), valid_egs or None, egs_minibatch_size, egs_buffer_size)
    else:
        data = Tables(
            feats=feats,
            targets=targets_by_output("--targets", targets or []),
            ivectors=ivectors or None,
            online_ivectors=online_ivectors or None,
            online_ivector_period=online_ivector_period,
            valid_feats=valid_feats or None,
            valid_targets=targets_by_output("--valid-targets", valid_targets or []) or None,
            valid_ivectors=valid_ivectors or None,
            valid_online_ivectors=valid_online_ivectors or None,
            memory=memory,
            ali_model=ali_model,
        )
    transform_options = TransformOptions.parse(lda_opts)
    model, layer = _starting_model(net, srand, lda)
    transform = None
    if layer is not None:
        delay = layer.delay
        transform = UnknownTransform(layer.name, transform_options, rand_prune, delay)
    say_if_slow(device)
    print(run(model, out_dir, data, options, resume, transform))


def _usual_widths(den_fst: str) -> str:
    return CHAIN_FRAMES if den_fst else "150,110,100"


def _factor(given: int | None, den_fst: str) -> int:
    """The subsampling factor; if it is not given that of the usual recipe."""
    if given is not None:
        return given
    return 3 if den_fst else 1


def _starting_model(
    path: str, seed: int, lda: bool | None
) -> tuple[Model, FixedAffineLayer | None]:
    """A model as it is, or a network with initial parameters from a config or an xconfig, and the
    layer that is yet to be estimated from data, if there is one."""
    import numpy as np

    from nnet.commands.init import network_from_file
    from nnet.modelfile.model import Model, read_model
    from nnet.modelfile.networks import unestimated_network
    from nnet.text.files import read_text

    if _is_model(path):
        made, model = None, read_model(path)
    else:
        rng = np.random.default_rng(seed)
        made = None if lda is False else unestimated_network(read_text(path), path, rng)
        if made and not lda and Path(made[1].affine_transform_file).exists():
            made = None
        model = Model(made[0] if made else network_from_file(path, None, seed))
    if made:
        return model, made[1]
    if lda:
        raise NnetError(
            f"--lda is given, but '{path}' is no xconfig with a fixed-affine-layer, whose "
            "transform could be estimated"
        )
    return model, None


def _is_model(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise NnetError(f"cannot read '{path}': {error.strerror}") from None
    return start.startswith((b"\0B", b"<Nnet3>", b"<TransitionModel>"))
