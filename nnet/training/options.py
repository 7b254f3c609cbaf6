"""What a training run is told, checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from nnet.data.batches import Sampling
from nnet.data.chain.supervision import Tolerance
from nnet.data.cutting import Context
from nnet.errors import NnetError, nearest
from nnet.plan.implementations import kernels as known_kernels
from nnet.training.dropout_schedule import DropoutSchedule
from nnet.training.lfmmi.options import ChainOptions
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

    num_epochs: int = 15
    minibatch_size: int = 8
    chunk_width: tuple[int, ...] = (150, 110, 100)
    chunk_left_context: int = 0
    chunk_right_context: int = 0
    chunk_left_context_initial: int = -1
    chunk_right_context_final: int = -1
    frame_subsampling_factor: int = 1
    optimizer: str = "adamw"
    initial_effective_lrate: float | None = None
    final_effective_lrate: float | None = None
    schedule: str | None = None
    warmup: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float = 5.0
    max_param_change: float = 2.0
    l2_regularize_factor: float = 1.0
    backstitch_training_scale: float = 0.0
    backstitch_training_interval: int = 1
    proportional_shrink: float = 0.0
    shrink_value: float = 1.0
    shrink_saturation_threshold: float = 0.4
    minibatches_per_iter: int = 0
    first_iter_minibatches: int = 0
    dropout: float | None = None
    dropout_schedule: str | None = None
    valid_share: float = 0.05
    valid_every: int = 0
    seed: int = 0
    bf16: bool = False
    memory_compression_level: int = 1
    cuda_graph: bool = False
    distributed: str = "sum"
    average_every: int = 100
    device: str = "cpu"
    kernels: str = "auto"
    num_threads: int = 0
    num_workers: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 3
    max_models_combine: int = 0
    print_interval: int = 100
    tensorboard: bool | None = None
    den_fst: str | None = None
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
        for option, given in (
            ("--den-fst", self.den_fst is not None),
            ("--backstitch-training-scale", self.backstitch_training_scale > 0),
            ("--first-iter-minibatches", self.first_iter_minibatches > 0),
            ("--optimizer " + self.optimizer, self.optimizer != "natural-gradient"),
        ):
            if self.cuda_graph and given:
                raise NnetError(
                    f"--cuda-graph is given with {option}, whose steps cannot be recorded; expected"
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
