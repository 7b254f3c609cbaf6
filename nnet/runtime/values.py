"""The values of a plan while it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from nnet.plan.ir import Value

Values = dict[Value, Tensor]
"""The rows `(time, batch, dim)` of values that are made and yet to be read. A value that is not
made yet is there only if its rows are to be written to a certain place: that place."""

LIKE: Value = -1
"""Under it is some input, for its batch size, type and device."""

Entry = tuple[Any, Callable[[Values], Any], list[Value]]
"""What a step makes, the step, and the values that nobody reads after it."""
