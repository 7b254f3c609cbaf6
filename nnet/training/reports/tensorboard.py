"""TensorBoard event files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nnet.errors import NnetError
from nnet.training.reports.records import MinibatchRecord, Position, ValidationRecord


def tensorboard_is_installed() -> bool:
    """Whether the extra `tensorboard` is there; it is not imported."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog:
    """Writes objective, accuracy, learning rate and gradient norm over minibatches.

    Raises:
        NnetError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if not tensorboard_is_installed():
            raise NnetError(
                "--tensorboard needs the package tensorboard, which is not installed; "
                "run: pip install tensorboard"
            )
        self._folder = folder

    def start(self, position: Position, validations: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = position.step + 1 if position.step else None
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)

    def minibatch(self, record: MinibatchRecord) -> None:
        self._add("objective/train", record.objective, record.step)
        self._add("accuracy/train", record.accuracy, record.step)
        self._add("learning rate", record.learning_rate, record.step)
        self._add("gradient norm", record.grad_norm, record.step)

    def validation(self, record: ValidationRecord) -> None:
        self._add("objective/valid", record.objective, record.step)
        self._add("accuracy/valid", record.accuracy, record.step)

    def saving(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add(self, name: str, value: float | None, step: int) -> None:
        if value is not None:
            self._writer.add_scalar(name, value, step)
