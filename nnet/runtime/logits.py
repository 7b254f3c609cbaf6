"""Outputs whose log-softmax is left to their objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from nnet.kernels.softmax.reference import AnyTargets, ListedTargets, LogLikelihood, Targets
from nnet.modules.pointwise import LogSoftmax
from nnet.plan import ir
from nnet.plan.ir import Plan
from nnet.plan.times import Times
from nnet.runtime.executor import Executor


@dataclass(frozen=True, eq=False)
class Logits:
    """An output before its log-softmax.

    Args:
        rows: (time, batch, dim), in the order in which they were made.
        times: of the rows.
        module: the log-softmax.
        consume: nobody else reads the rows, so that their derivative may take their place.
    """

    rows: Tensor
    times: Times
    module: LogSoftmax
    consume: bool = False

    def finished(self) -> Tensor:
        """The output itself, (batch, time, dim)."""
        results: Tensor = self.module(self.rows, self.times).transpose(0, 1)
        return results

    def log_likelihood(
        self, weights: Tensor, ids: Tensor | None = None, scales: Tensor | None = None
    ) -> LogLikelihood:
        """`nnet.kernels.softmax.reference.log_likelihood` of targets (batch, time, ...).

        Its results are (batch, time).
        """
        targets = Targets(weights, ids, scales)
        return self._log_likelihood(targets.map(lambda t: t.transpose(0, 1).flatten(0, 1)))

    def listed_log_likelihood(self, positions: Tensor, weights: Tensor) -> LogLikelihood:
        """The log-likelihood of listed targets: weights (targets,) of elements of (time, batch,
        dim), whose positions from the beginning on are int64 (targets,)."""
        dim = self.rows.shape[-1]
        rows = positions.div(dim, rounding_mode="floor")
        return self._log_likelihood(ListedTargets(rows, positions - rows * dim, weights))

    def _log_likelihood(self, targets: AnyTargets) -> LogLikelihood:
        results = self.module.log_likelihood(self.rows.flatten(0, 1), targets, consume=self.consume)
        shape = self.rows.shape[:2]
        return LogLikelihood(*(part.view(shape).transpose(0, 1) for part in results))


Output: TypeAlias = Tensor | Logits
"""What a network gives for an output: (batch, time, dim), or what its objective finishes."""


def finished(output: Output) -> Tensor:
    """The output itself, (batch, time, dim)."""
    return output.finished() if isinstance(output, Logits) else output


def outputs_of(executor: Executor, results: Mapping[str, Tensor]) -> dict[str, Output]:
    """What an executor gave, (batch, time, dim), those that its plan leaves to objectives so."""
    plan, layout = executor.plan, executor.layout
    outputs: dict[str, Output] = dict(results)
    for name, value, _ in layout.results:
        operation = plan.operations[value]
        if isinstance(operation, ir.Logits):
            module = executor.bound.module(value, operation.component)
            assert isinstance(module, LogSoftmax)
            rows, consume = results[name].transpose(0, 1), _is_consumable(plan, operation)
            outputs[name] = Logits(rows, layout.times[value], module, consume)
    return outputs


def _is_consumable(plan: Plan, logits: ir.Logits) -> bool:
    """Whether nobody else holds the rows: a plain affine transform keeps its input alone."""
    operation = plan.operations[logits.source.value]
    plain = isinstance(operation, ir.SplicedAffine) and not (
        operation.activation or operation.scale_offset or operation.bypass
    )
    return plain and plan.uses()[logits.source.value] == 1
