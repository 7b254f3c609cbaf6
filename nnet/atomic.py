"""Files that appear whole or not at all."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nnet.errors import NnetError
from nnet.process import not_interrupted

LONGEST_NAME = 100  # characters of a name that its temporary file's name repeats


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an error.

    The bytes go to a temporary file beside `path`, reach the disk, and then get its name: a
    reader sees the old file or the new one, and a kill or a full disk leaves the old one. What is
    not a regular file (a device, a named pipe) is written directly.

    Raises:
        NnetError: the file cannot be created or written. Other errors of the block are left as
            they are.
    """
    target = Path(os.path.realpath(path))
    if _is_special(target):
        with _writing(path):
            stream = _Output(target, path)
        with io.BufferedWriter(stream) as buffered:
            yield buffered
        return
    name = ""
    try:
        with _writing(path), not_interrupted():
            handle, name = tempfile.mkstemp(
                prefix=f".{target.name[:LONGEST_NAME]}.", suffix=".tmp", dir=target.parent
            )
        with io.BufferedWriter(_Output(handle, path)) as buffered:
            yield buffered
            buffered.flush()
            with _writing(path):
                os.fsync(handle)
        with _writing(path):
            os.chmod(name, _permissions(target))
            os.replace(name, target)
    except BaseException:
        if name:
            Path(name).unlink(missing_ok=True)
        raise
    with _writing(path):
        _sync_folder(target.parent)


class _Output(io.FileIO):
    """A file whose errors of writing name it.

    Args:
        file: its name, or its number if it is open.
        path: what the user calls it.
    """

    def __init__(self, file: Path | int, path: str | Path) -> None:
        super().__init__(file, "wb")
        self._path = path
        self._failed = False

    def write(self, data: Any) -> int:
        if self._failed:  # said once; what is still in a buffer is lost with the rest
            return len(data)
        try:
            with _writing(self._path):
                return super().write(data) or 0
        except NnetError:
            self._failed = True
            raise


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise NnetError(
            f"{path}: cannot write: {reason or error}; choose a place that exists, is writable "
            "and has room"
        ) from error


def _is_special(target: Path) -> bool:
    """Whether something that is no regular file is there."""
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except (OSError, ValueError):
        return False


def _permissions(target: Path) -> int:
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
