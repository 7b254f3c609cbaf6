"""Options of LF-MMI training."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.data.options import LEFT_TOLERANCE, RIGHT_TOLERANCE
from nnet.errors import NnetError
from nnet.options import given, option

LFMMI = given("den_fst")


@dataclass(frozen=True)
class ChainMeasure:
    """What the objective of LF-MMI depends on where nothing is trained.

    Args:
        leaky_hmm_coefficient: of the denominator; nnet3's programs have 1e-5 as default.
        l2_regularize: the objective gets minus half of this times the squared outputs.
    """

    leaky_hmm_coefficient: float = option(
        0.1, "LF-MMI: share that leaks from all states to all states.", applies=LFMMI
    )
    l2_regularize: float = option(0.0, "LF-MMI: penalty on squared outputs.", applies=LFMMI)


@dataclass(frozen=True)
class ChainOptions(ChainMeasure):
    """nnet3's ChainTrainingOptions, with the values of Kaldi's recipes as defaults.

    Args:
        leaky_hmm_coefficient, l2_regularize: see `ChainMeasure`.
        out_of_range_regularize: penalty on what outputs exceed +-30 by.
        xent_regularize: scale of the cross-entropy of the outputs named `-xent`, whose targets are
            the numerator's posteriors; 0: these outputs are left alone.
        apply_deriv_weights: whether the examples' derivative weights are used, which fade out
            chunks where they overlap.
        left_tolerance: input frames that a phone may begin earlier than it is aligned, where
            supervision is made from alignments.
        right_tolerance: input frames that it may end later.
    """

    out_of_range_regularize: float = option(
        0.01, "LF-MMI: penalty on outputs beyond +-30.", applies=LFMMI
    )
    xent_regularize: float = option(
        0.1, "LF-MMI: scale of the cross-entropy of output-xent, if there is one.", applies=LFMMI
    )
    apply_deriv_weights: bool = option(
        False, "LF-MMI: use the examples' derivative weights.", applies=LFMMI
    )
    left_tolerance: int = option(5, LEFT_TOLERANCE, applies=LFMMI & given("feats"))
    right_tolerance: int = option(5, RIGHT_TOLERANCE, applies=LFMMI & given("feats"))

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
