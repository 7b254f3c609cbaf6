"""A step of training between its start and its report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnet.data.minibatch import Minibatch
from nnet.errors import NnetError
from nnet.training.reports.records import Position
from nnet.training.steps import Outcome, Pending


@dataclass(frozen=True, eq=False)
class UnderWay:
    """A step that was taken and not yet reported; see MinibatchRecord."""

    pending: Pending
    minibatch: Minibatch
    position: Position
    done: float
    learning_rate: float
    shrink: float
    started: float
    waited: float

    def error(self, outcome: Outcome) -> NnetError:
        """What a user is told where the objective or its gradient is not finite."""
        objectives = {name: tally.total for name, tally in outcome.tallies.items()}
        wrong = [
            f"objective of '{n}' is {o}" for n, o in objectives.items() if not math.isfinite(o)
        ]
        what = wrong[0] if wrong else f"gradient norm is {outcome.norm}"
        names = list(dict.fromkeys(self.minibatch.utterances))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return NnetError(
            f"training stopped at minibatch {self.position.step + 1} (epoch "
            f"{self.position.epoch + 1}): the {what}\n"
            f"utterances of the minibatch: {shown or 'not in the examples'}\n"
            "lower --initial-effective-lrate or --max-grad-norm, or look for odd values in these "
            "utterances' features; the last checkpoint is from before"
        )
