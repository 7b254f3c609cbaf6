"""`nnet train`: what nnet3-train and steps/nnet3/train_dnn.py do, from features and targets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from nnet.errors import NnetError

if TYPE_CHECKING:
    from nnet.modelfile.model import Model


def train(
    net: Annotated[str, Argument(help="An xconfig, a config, or a model (.raw or .mdl).")],
    out_dir: Annotated[Path, Argument(help="Folder for the trained model, checkpoints and logs.")],
    feats: Annotated[str, Option(help="Rspecifier of training features.")] = "",
    targets: Annotated[
        str, Option(help="Rspecifier of targets: alignments, posteriors or matrices.")
    ] = "",
    egs: Annotated[
        list[str] | None,
        Option(help="Rspecifier of examples instead of --feats; may be given several times."),
    ] = None,
    valid_egs: Annotated[str, Option(help="Rspecifier of validation examples.")] = "",
    egs_minibatch_size: Annotated[
        str, Option(help="Examples in a minibatch, in the forms of nnet3-merge-egs.")
    ] = "128,1:64",
    egs_buffer_size: Annotated[int, Option(help="Examples held for shuffling.")] = 5000,
    ivectors: Annotated[str, Option(help="Rspecifier: one i-vector per utterance.")] = "",
    online_ivectors: Annotated[
        str, Option(help="Rspecifier: i-vectors estimated online, a matrix per utterance.")
    ] = "",
    online_ivector_period: Annotated[
        int, Option(help="Frames from one online i-vector to the next.")
    ] = 10,
    valid_feats: Annotated[str, Option(help="Rspecifier of validation features.")] = "",
    valid_targets: Annotated[str, Option(help="Rspecifier of validation targets.")] = "",
    valid_ivectors: Annotated[str, Option(help="As --ivectors, for validation.")] = "",
    valid_online_ivectors: Annotated[str, Option(help="As --online-ivectors.")] = "",
    valid_share: Annotated[
        float, Option(help="Share of the training utterances to hold out without --valid-feats.")
    ] = 0.05,
    num_epochs: Annotated[int, Option(help="Times that the training data are seen.")] = 15,
    minibatch_size: Annotated[int, Option(help="Chunks of the first width in a minibatch.")] = 8,
    chunk_width: Annotated[
        str, Option(help="Frames per chunk: the usual width, then others for what is left.")
    ] = "150,110,100",
    frame_subsampling_factor: Annotated[int, Option(help="Input frames per output frame.")] = 1,
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
    dropout_schedule: Annotated[
        str | None, Option(help="Such as '0,0@0.20,0.5@0.5,0', with PATTERN= in front or not.")
    ] = None,
    dropout: Annotated[
        float | None, Option(help="Dropout proportion of all dropout components.")
    ] = None,
    srand: Annotated[int, Option("--srand", "--seed", help="Seed of everything random.")] = 0,
    device: Annotated[str, Option(help="cpu, cuda or cuda:N.")] = "cpu",
    bf16: Annotated[bool, Option("--bf16", help="Compute in bfloat16, update in float32.")] = False,
    distributed: Annotated[
        str, Option(help="Under torchrun: sum gradients in each step, or average parameters.")
    ] = "sum",
    average_every: Annotated[
        int, Option(help="Minibatches from one average of parameters to the next.")
    ] = 100,
    num_threads: Annotated[int, Option(help="CPU threads; 0: torch's default.")] = 0,
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
    tensorboard: Annotated[
        bool | None, Option(help="Write TensorBoard events [if tensorboard is installed].")
    ] = None,
) -> None:
    """Trains a network from features and targets, or from examples.

    Chunks are drawn at random with their context from the utterances; nothing is stored on disk.
    Several processes train together under torchrun, each on its part of the minibatches.
    OUT_DIR gets final.raw (final.mdl with new priors if NET is an .mdl), checkpoints/, train.jsonl
    and curves.png.

    Example: nnet train tdnnf.xconfig exp/tdnnf --feats scp:feats.scp --targets ark:ali.ark
    """
    from nnet.training.options import TrainingOptions
    from nnet.training.session import train as run
    from nnet.training.tables import Archives, Tables

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    options = TrainingOptions(
        num_epochs=num_epochs,
        minibatch_size=minibatch_size,
        chunk_width=_widths(chunk_width),
        frame_subsampling_factor=frame_subsampling_factor,
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
        dropout_schedule=dropout_schedule,
        dropout=dropout,
        valid_share=valid_share,
        valid_every=valid_every,
        seed=srand,
        bf16=bf16,
        distributed=distributed,
        average_every=average_every,
        device=device,
        num_threads=num_threads,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=max(keep_checkpoints, max_models_combine),
        max_models_combine=max_models_combine,
        tensorboard=tensorboard,
    )
    data: Tables | Archives
    if bool(egs) == bool(feats and targets):
        raise NnetError("expected: --feats and --targets, or --egs")
    if egs:
        data = Archives(tuple(egs), valid_egs or None, egs_minibatch_size, egs_buffer_size)
        print(run(_starting_model(net, srand), out_dir, data, options, resume))
        return
    data = Tables(
        feats=feats,
        targets=targets,
        ivectors=ivectors or None,
        online_ivectors=online_ivectors or None,
        online_ivector_period=online_ivector_period,
        valid_feats=valid_feats or None,
        valid_targets=valid_targets or None,
        valid_ivectors=valid_ivectors or None,
        valid_online_ivectors=valid_online_ivectors or None,
        memory=memory,
    )
    print(run(_starting_model(net, srand), out_dir, data, options, resume))


def _starting_model(path: str, seed: int) -> Model:
    """A model as it is, or a network with initial parameters from a config or an xconfig."""
    from nnet.commands.init import network_from_file
    from nnet.modelfile.model import Model, read_model

    if _is_model(path):
        return read_model(path)
    return Model(network_from_file(path, None, seed))


def _is_model(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise NnetError(f"cannot read '{path}': {error.strerror}") from None
    return start.startswith((b"\0B", b"<Nnet3>", b"<TransitionModel>"))


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise NnetError(
            f"--chunk-width is '{text}'; expected: frames, such as 150 or 150,110,100"
        ) from None
