"""The folder of a run: one run at a time writes into it, and none by accident over another."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from pathlib import Path
from types import TracebackType

from nnet.errors import NnetError

CHECKPOINTS = "checkpoints"
FINAL = ("final.raw", "final.mdl")
RESULTS = (*FINAL, "train.jsonl", "train.log", "curves.png", "lda.mat", CHECKPOINTS, "tensorboard")


class RunFolder:
    """A context manager; `claim` makes the folder and keeps other runs out until the block ends.

    Args:
        path: of the folder.
        resume: whether the run goes on from what is there.
        force: whether the results of another run are deleted.
        leads: whether this process is the one of its run that writes.

    Raises:
        NnetError: the folder cannot be made or written, or holds another run. Nothing is made yet.
    """

    def __init__(self, path: Path, *, resume: bool, force: bool, leads: bool) -> None:
        self.path = path
        self.leads = leads
        self._resume, self._force = resume, force
        self._handle: int | None = None
        self._check_place()
        self._check_results()

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def final(self) -> Path | None:
        """The trained model, if it is there."""
        return next((p for name in FINAL if (p := self.path / name).exists()), None)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)  # which gives the lock back, as the end of the process does
            self._handle = None

    def claim(self) -> None:
        """Makes the folder, for this run alone, without what dead runs left half written.

        Raises:
            NnetError: it cannot be made, or another run is at work in it or was there first.
        """
        if self._handle is not None or not self.leads:
            return
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._cannot_make(error.strerror) from error
        _lock(self._handle, self.path)
        self._check_results()
        if self._force:
            for name in RESULTS:
                _delete(self.path / name)
            self.checkpoints.mkdir(exist_ok=True)
        for folder in (self.path, self.checkpoints):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def _check_place(self) -> None:
        place = self.checkpoints
        try:
            existing = next(p for p in (place, *place.absolute().parents) if p.exists())
        except OSError as error:
            raise self._cannot_make(error.strerror) from error
        if not existing.is_dir():
            raise self._cannot_make(os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK):
            raise NnetError(f"{self.path}: cannot write into this folder; choose another OUT_DIR")

    def _check_results(self) -> None:
        has_checkpoints = any(self.checkpoints.glob("*.safetensors"))
        if self._resume:
            if self.final and not has_checkpoints:
                raise NnetError(
                    f"{self.final} is there, but no checkpoint to go on from; choose another "
                    "OUT_DIR, or give --force in place of --resume to delete it"
                )
        elif not self._force and (has_checkpoints or self.final):
            raise NnetError(
                f"{self.path} holds the results of an earlier run; go on with it with --resume, "
                "delete them with --force, or choose another OUT_DIR"
            )

    def _cannot_make(self, reason: str | None) -> NnetError:
        return NnetError(f"{self.path}: cannot make this folder: {reason}; choose another OUT_DIR")


def _lock(handle: int, path: Path) -> None:
    """Locks an open folder until it is closed; systems without such locks do without."""
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NnetError(
            f"{path}: another run is writing into this folder; wait until it ends, or choose "
            "another OUT_DIR"
        ) from None
    except OSError:  # a file system that has no locks
        return


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
