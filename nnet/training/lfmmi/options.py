"""Options of LF-MMI training."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.errors import NnetError


@dataclass(frozen=True)
class ChainOptions:
    """nnet3's ChainTrainingOptions, with the values of Kaldi's recipes as defaults.

    Args:
        l2_regularize: the objective gets minus half of this times the squared outputs.
        out_of_range_regularize: penalty on what outputs exceed +-30 by.
        leaky_hmm_coefficient: of the denominator; nnet3's programs have 1e-5 as default.
        xent_regularize: scale of the cross-entropy of the outputs named `-xent`, whose targets are
            the numerator's posteriors; 0: these outputs are left alone.
        apply_deriv_weights: whether the examples' derivative weights are used, which fade out
            chunks where they overlap.
        left_tolerance: input frames that a phone may begin earlier than it is aligned, where
            supervision is made from alignments.
        right_tolerance: input frames that it may end later.
    """

    l2_regularize: float = 0.0
    out_of_range_regularize: float = 0.01
    leaky_hmm_coefficient: float = 0.1
    xent_regularize: float = 0.1
    apply_deriv_weights: bool = False
    left_tolerance: int = 5
    right_tolerance: int = 5

    def __post_init__(self) -> None:
        if not 0.0 < self.leaky_hmm_coefficient < 1.0:
            raise NnetError(
                f"--leaky-hmm-coefficient is {self.leaky_hmm_coefficient}, expected above 0 and "
                "below 1"
            )
        for name in ("l2_regularize", "out_of_range_regularize", "xent_regularize"):
            if not getattr(self, name) >= 0.0:
                option = name.replace("_", "-")
                raise NnetError(f"--{option} is {getattr(self, name)}, expected 0 or more")
