"""Which passes run, in which order."""

from __future__ import annotations

from nnet.passes.base import Pass
from nnet.passes.bias_columns import BiasColumns
from nnet.passes.common_subexpressions import CommonSubexpressions
from nnet.passes.dead_values import DeadValues
from nnet.passes.fold_backward import FoldBackward
from nnet.passes.fold_forward import FoldForward
from nnet.passes.fuse import Fuse
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
    DeadValues(),
    BiasColumns(),
    DeadValues(),
)
"""For test mode: fixed parameters, stored batch-norm statistics, no dropout."""
