"""Which passes run, in which order."""

from __future__ import annotations

from nnet.passes.base import Pass
from nnet.passes.bias_columns import BiasColumns
from nnet.passes.common_subexpressions import CommonSubexpressions
from nnet.passes.dead_values import DeadValues
from nnet.passes.finish_convolutions import FinishConvolutions
from nnet.passes.fold_backward import FoldBackward
from nnet.passes.fold_forward import FoldForward
from nnet.passes.fuse import Fuse
from nnet.passes.fuse_batch_norm import FuseBatchNorm
from nnet.passes.fuse_pooling import FusePooling
from nnet.passes.leave_log_softmax import LeaveLogSoftmax
from nnet.passes.merge_affines import MergeAffines
from nnet.passes.remove_dropout import RemoveDropout
from nnet.passes.remove_noops import RemoveNoOps
from nnet.passes.scale_offsets import ScaleOffsets
from nnet.passes.splice import Splice

TRAINING: tuple[Pass, ...] = (
    DeadValues(),
    RemoveNoOps(derivatives=True),
    CommonSubexpressions(components=False),
    Splice(),
    FuseBatchNorm(),
    DeadValues(),
)
"""For a module with trainable parameters and batch statistics."""

TEST: tuple[Pass, ...] = (
    DeadValues(),
    RemoveNoOps(),
    RemoveDropout(),
    CommonSubexpressions(),
    ScaleOffsets(),
    DeadValues(),
    FoldBackward(),
    FoldForward(),
    DeadValues(),
    MergeAffines(),
    CommonSubexpressions(),
    Splice(),
    DeadValues(),
    Fuse(),
    FusePooling(),
    FinishConvolutions(),
    DeadValues(),
    BiasColumns(),
    DeadValues(),
)
"""For test mode: fixed parameters, stored batch-norm statistics, no dropout."""


def pipeline(
    *, test_mode: bool, fused: bool = False, log_likelihoods: tuple[str, ...] = ()
) -> tuple[Pass, ...]:
    """The passes for a purpose.

    Args:
        fused: for kernels that splice, multiply and finish in one pass: nothing is put side by
            side in memory for them, and nothing is done in blocks of rows.
        log_likelihoods: outputs whose objective takes over their log-softmax.
    """
    passes = TEST if test_mode else TRAINING
    if log_likelihoods:
        passes = (*passes, LeaveLogSoftmax(log_likelihoods))
    if not fused:
        return passes
    apart: dict[str, Pass] = {
        Splice.name: Splice(direct=True),
        FuseBatchNorm.name: FuseBatchNorm(affine=False),
    }
    chosen = (apart.get(step.name, step) for step in passes)
    return tuple(step for step in chosen if not isinstance(step, BiasColumns))
