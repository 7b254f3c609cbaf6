"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nnet.errors import NnetError
from nnet.process import not_interrupted


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an error.

    The bytes go to a temporary file beside `path`, reach the disk, and then get its name: a
    reader sees the old file or the new one, and a kill or a full disk leaves the old one. What is
    not a regular file (a device, a named pipe) is written directly.

    Raises:
        NnetError: the file cannot be created or written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            with open(target, "wb") as stream:
                yield stream
            return
        with _replacement(target) as stream:
            yield stream
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)).parent != target.parent:
            raise
        reason = error.strerror or str(error)
        raise NnetError(
            f"{path}: cannot write: {reason}; choose a place that exists, is writable and has room"
        ) from error


@contextmanager
def _replacement(target: Path) -> Iterator[BinaryIO]:
    name = ""
    try:
        with not_interrupted():
            prefix, folder = f".{target.name}.", target.parent
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=folder)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, _permissions(target))
        os.replace(name, target)
    except BaseException:
        if name:
            Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


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
