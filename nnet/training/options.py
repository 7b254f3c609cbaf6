"""What a training run is told, checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from nnet.data.batches import Sampling
from nnet.data.chain.supervision import Tolerance
from nnet.data.cutting import Context
from nnet.errors import NnetError, nearest
from nnet.options import Applies, frame_counts, given, missing, option
from nnet.plan.implementations import kernels as known_kernels
from nnet.runtime.options import DEVICE, KERNELS, NUM_THREADS
from nnet.training.dropout_schedule import DropoutSchedule
from nnet.training.lfmmi.options import LFMMI, ChainOptions
from nnet.training.optimizers import OPTIMIZERS
from nnet.training.schedules import SCHEDULES, Rates
from nnet.training.shrinkage import LEAST, Shrinkage

FREE_TO_CHANGE = (
    "num_threads",
    "num_workers",
    "checkpoint_every",
    "keep_checkpoints",
    "device",
    "kernels",
    "tensorboard",
    "print_interval",
)

CHAIN_FRAMES = (140, 100, 160)
"""Usual widths of chunks for LF-MMI."""

CHUNKS = given("feats")
"""Where chunks are drawn from utterances."""

SHRINK_VALUE = Applies("with --shrink-value below 1", lambda values: values["shrink_value"] != 1.0)
VALIDATION = Applies(
    "with validation data (--valid-egs, --valid-feats or --valid-share above 0)",
    lambda v: v["valid_egs"] or v["valid_feats"] or (v["feats"] and v["valid_share"]),
)


def optimized_by(*names: str) -> Applies:
    """Applies with some of the optimizers."""
    return Applies(
        f"with --optimizer {' or '.join(names)}", lambda values: values["optimizer"] in names
    )


NATURAL = optimized_by("natural-gradient")
PLAIN_GRADIENT = optimized_by("adamw", "sgd")

CHAIN_RATES = {"initial_effective_lrate": 0.0005, "final_effective_lrate": 0.00005}
"""For LF-MMI with natural gradient, as in Kaldi's recipes."""


@dataclass(frozen=True)
class TrainingOptions:
    """Options of `nnet train`; None stands for the optimizer's own default.

    Learning rates are for the gradient of the objective per frame, with natural gradient for that
    of its sum over the frames of a minibatch. `chunk_width` is in input
    frames, and so are the `chunk_..._context`s, which come to the network's own (those of the first
    and last chunk of an utterance are negative if they are no others); `minibatch_size` is in
    chunks of the first width; `valid_every` and `checkpoint_every` are
    in minibatches, 0 for the end of each epoch alone; `minibatches_per_iter` is the length of what
    Kaldi calls an iteration, 0 for an epoch; `first_iter_minibatches` is the length of one that
    comes before, with smaller steps. `den_fst` is the denominator graph of LF-MMI training
    and `chain` are its options; None is training towards targets of frames.
    """

    num_epochs: int = option(15, "Times that the training data are seen.")
    minibatch_size: int = option(
        8, "Chunks of the first width in a minibatch.", applies=CHUNKS | PLAIN_GRADIENT
    )
    chunk_width: tuple[int, ...] = option(
        (150, 110, 100),
        "Frames per chunk: the usual width, then others for what is left "
        "[150,110,100; with --den-fst 140,100,160].",
        parse=frame_counts,
        applies=CHUNKS | PLAIN_GRADIENT,
        usual=lambda values: CHAIN_FRAMES if values["den_fst"] else (150, 110, 100),
    )
    chunk_left_context: int = option(
        0, "Frames before each chunk beyond the network's own context; 40 for LSTMs.",
        applies=CHUNKS,
    )  # fmt: skip
    chunk_right_context: int = option(
        0, "Frames after each chunk beyond that; 40 for BLSTMs.", applies=CHUNKS
    )
    chunk_left_context_initial: int = option(
        -1, "The same for the first chunk of an utterance; negative: no other.", applies=CHUNKS
    )
    chunk_right_context_final: int = option(
        -1, "The same for the last chunk of an utterance; negative: no other.", applies=CHUNKS
    )
    frame_subsampling_factor: int = option(
        1,
        "Input frames per output frame [1; with --den-fst 3].",
        applies=CHUNKS | LFMMI | PLAIN_GRADIENT,
        usual=lambda values: 3 if values["den_fst"] else 1,
    )
    optimizer: str = option(
        "adamw",
        "adamw, sgd or natural-gradient [the last with --egs, else adamw].",
        usual=lambda values: "natural-gradient" if values["egs"] else "adamw",
    )
    initial_effective_lrate: float | None = option(
        None, "Learning rate at the start [adamw 0.002, sgd 0.3, natural 0.0015]."
    )
    final_effective_lrate: float | None = option(
        None, "Learning rate at the end [adamw 2e-5, sgd 0.03, natural 1.5e-4]."
    )
    schedule: str | None = option(None, "cosine or exponential [adamw cosine, others exponential].")
    warmup: float | None = option(
        None, "Share of training in which the rate rises [adamw 0.05, others 0]."
    )
    momentum: float | None = option(
        None,
        "Momentum [sgd 0.9, natural-gradient 0].",
        applies=optimized_by("sgd", "natural-gradient"),
    )
    weight_decay: float | None = option(
        None, "Decay of matrices, decoupled in adamw [adamw 0.05, sgd 0].", applies=PLAIN_GRADIENT
    )
    max_grad_norm: float = option(
        5.0, "Clip gradients to this norm; 0: never.", applies=PLAIN_GRADIENT
    )
    max_param_change: float = option(
        2.0, "Largest change of all parameters in a minibatch; 0: no limit.", applies=NATURAL
    )
    l2_regularize_factor: float = option(
        1.0, "Multiplies the components' l2-regularize.", applies=NATURAL
    )
    backstitch_training_scale: float = option(0.0, "Backstitch; 0: none.", applies=NATURAL)
    backstitch_training_interval: int = option(
        1,
        "Backstitch in every so many minibatches.",
        applies=NATURAL & given("backstitch_training_scale"),
    )
    proportional_shrink: float = option(
        0.0, "Scale parameters by 1 minus this times the rate before each iteration."
    )
    shrink_value: float = option(
        1.0, "Scale them by this where sigmoids and tanhs are saturated; 1: never."
    )
    shrink_saturation_threshold: float = option(
        0.4, "Saturation, 0 to 1, above which --shrink-value is used.", applies=SHRINK_VALUE
    )
    minibatches_per_iter: int = option(
        0,
        "Minibatches in an iteration of the shrink options; 0: an epoch.",
        applies=SHRINK_VALUE | given("proportional_shrink"),
    )
    first_iter_minibatches: int = option(
        0,
        "Begin with so many minibatches in halves, --max-param-change divided by sqrt(2) and, "
        "where processes are averaged, the best one's model, as train.py's iteration 0.",
    )
    dropout_schedule: str | None = option(
        None, "Such as '0,0@0.20,0.5@0.5,0', with PATTERN= in front or not."
    )
    dropout: float | None = option(None, "Dropout proportion of all dropout components.")
    valid_share: float = option(
        0.05,
        "Share of the training utterances to hold out.",
        applies=CHUNKS & missing("valid_feats"),
    )
    valid_every: int = option(
        0, "Validate also every so many minibatches; 0: after epochs alone.", applies=VALIDATION
    )
    seed: int = option(0, "Seed of everything random.", names=("--srand", "--seed"))
    bf16: bool = option(False, "Compute in bfloat16, update in float32.")
    memory_compression_level: int = option(
        1, "2: keep what the derivative needs in 16 bits; 1, 0: as it is."
    )
    cuda_graph: bool = option(False, "On a GPU: launch each step as one CUDA graph.")
    distributed: str = option(
        "sum", "Under torchrun: sum gradients in each step, or average parameters."
    )
    average_every: int = option(
        100,
        "Minibatches from one average of parameters to the next.",
        applies=Applies("with --distributed average", lambda v: v["distributed"] == "average"),
    )
    device: str = option("cpu", DEVICE)
    kernels: str = option("auto", KERNELS)
    num_threads: int = option(0, NUM_THREADS)
    num_workers: int = option(0, "Processes that make minibatches; 0: a thread of this one.")
    checkpoint_every: int = option(0, "Write a checkpoint also every so many minibatches.")
    keep_checkpoints: int = option(3, "Checkpoints to keep.")
    max_models_combine: int = option(
        0,
        "Average up to so many of the last checkpoints, by --valid objective.",
        applies=VALIDATION,
    )
    print_interval: int = option(
        100, "Minibatches from one line about an output in train.log to the next."
    )
    tensorboard: bool | None = option(
        None, "Write TensorBoard events [if tensorboard is installed]."
    )
    den_fst: str | None = option(
        None,
        "Denominator graph, for LF-MMI: --egs are chain examples, or --targets are phones with "
        "lengths and the graph's folder is one that nnet chain-prepare has made.",
    )
    chain: ChainOptions = field(default_factory=ChainOptions)

    def __post_init__(self) -> None:
        self._check_names()
        self._check_ranges()
        defaults = OPTIMIZERS[self.optimizer].defaults
        if self.den_fst is not None and self.optimizer == "natural-gradient":
            defaults = {**defaults, **CHAIN_RATES}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        kept = max(self.keep_checkpoints, self.max_models_combine)
        object.__setattr__(self, "keep_checkpoints", kept)
        shrink = self.proportional_shrink
        least = 1.0 - shrink * max(self.rates.initial, self.rates.final)
        expected = f"so small that parameters are not scaled by {least:g} but by more than {LEAST}"
        _check("proportional_shrink", shrink, least > LEAST, expected)

    @property
    def sampling(self) -> Sampling:
        """How chunks are drawn; for LF-MMI with features moved by parts of an output frame."""
        step = self.frame_subsampling_factor
        shift = 0 if self.den_fst is None else step // 2
        edges = (self.context.left_initial is not None, self.context.right_final is not None)
        return Sampling(self.chunk_width, self.minibatch_size, step, self.seed, shift, edges)

    @property
    def context(self) -> Context:
        """Input frames around each chunk beyond the network's own context."""
        edges = (self.chunk_left_context_initial, self.chunk_right_context_final)
        initial, final = (None if frames < 0 else frames for frames in edges)
        return Context(self.chunk_left_context, self.chunk_right_context, initial, final)

    @property
    def tolerance(self) -> Tolerance:
        """How far phones may move from where they are aligned, for LF-MMI."""
        chain = self.chain
        return Tolerance(chain.left_tolerance, chain.right_tolerance, self.frame_subsampling_factor)

    @property
    def rates(self) -> Rates:
        initial, final = self.initial_effective_lrate, self.final_effective_lrate
        return Rates(initial or 0.0, final or 0.0, self.warmup or 0.0)

    @property
    def shrinkage(self) -> Shrinkage:
        return Shrinkage(
            self.proportional_shrink, self.shrink_value, self.shrink_saturation_threshold
        )

    @property
    def full_weight(self) -> float:
        """Output frames of a full minibatch, by which sums over a minibatch are divided."""
        return self.sampling.frames / self.frame_subsampling_factor

    def identity(self) -> dict[str, Any]:
        """The options that decide the result."""
        options = dataclasses.asdict(self)
        return {name: options[name] for name in options if name not in FREE_TO_CHANGE}

    def _check_names(self) -> None:
        known_kernels(self.kernels)
        _check_one_of("--optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule is not None:
            _check_one_of("--schedule", self.schedule, SCHEDULES)
        for name, is_given in (
            ("--den-fst", self.den_fst is not None),
            ("--backstitch-training-scale", self.backstitch_training_scale > 0),
            ("--first-iter-minibatches", self.first_iter_minibatches > 0),
            ("--optimizer " + self.optimizer, self.optimizer != "natural-gradient"),
        ):
            if self.cuda_graph and is_given:
                raise NnetError(
                    f"--cuda-graph is given with {name}, whose steps cannot be recorded; expected"
                    ": --optimizer natural-gradient towards targets of frames, without backstitch"
                )

    def _check_ranges(self) -> None:
        for name in (
            "num_epochs", "minibatch_size", "frame_subsampling_factor", "keep_checkpoints",
            "backstitch_training_interval", "print_interval",
        ):  # fmt: skip
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for side in ("left", "right"):
            name = f"chunk_{side}_context"
            _check(name, getattr(self, name), getattr(self, name) >= 0, "frames, 0 or more")
        widths = ",".join(map(str, self.chunk_width))
        expected = "frames, 1 or more, such as 150 or 150,110,100"
        _check("chunk_width", widths, min(self.chunk_width, default=0) >= 1, expected)
        for name in ("initial_effective_lrate", "final_effective_lrate"):
            rate = getattr(self, name)
            _check(name, rate, rate is None or 0 < rate < float("inf"), "greater than 0")
        for name in (
            "momentum", "valid_share", "warmup", "dropout", "shrink_saturation_threshold",
        ):  # fmt: skip
            share = getattr(self, name)
            _check(name, share, share is None or 0 <= share < 1, "at least 0 and below 1")
        for name in (
            "weight_decay", "max_grad_norm", "valid_every", "num_threads", "num_workers",
            "checkpoint_every",
            "max_models_combine", "max_param_change", "l2_regularize_factor",
            "backstitch_training_scale", "proportional_shrink", "minibatches_per_iter",
            "first_iter_minibatches",
        ):  # fmt: skip
            value = getattr(self, name)
            _check(name, value, value is None or value >= 0, "0 or more")
        value = self.shrink_value
        _check("shrink_value", value, LEAST < value <= 1.0, f"above {LEAST} and at most 1")
        if self.dropout_schedule is not None:
            DropoutSchedule.parse(self.dropout_schedule)


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        option = "--" + name.replace("_", "-")
        raise NnetError(f"{option} is {value}; expected: {expected}")


def _check_one_of(option: str, value: str, known: dict[str, Any]) -> None:
    if value in known:
        return
    meant = nearest(value, known)
    hint = f"; did you mean '{meant}'?" if meant else ""
    raise NnetError(f"{option} is '{value}'; expected: one of {', '.join(known)}{hint}")
