"""Files that are whole or absent: write to a temporary sibling, sync, verify, rename.

Every writer of the project goes through here. A crash at any moment leaves the old file, or none, and at most a
`.tmp-*` sibling that `sweep` removes at the next start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from medmoe_cli.core.base.errors import ResourceError

TEMPORARY_PREFIX = ".tmp-"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h


def failpoint(name: str) -> None:
    """Die here, as a kill would, when MEDMOE_FAILPOINT names this point (`name` or `name:n`, the n-th pass)."""
    wanted = os.environ.get("MEDMOE_FAILPOINT")
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point != name:
        return
    passes = _passes[name] = _passes.get(name, 0) + 1
    if passes >= int(count or 1):
        os._exit(137)


_passes: dict[str, int] = {}


def temporary_sibling(path: Path) -> Path:
    """A name beside `path`, on the same file system, that keeps its suffixes (writers look at them)."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")


def replace_file(path: Path, writer: Callable[[Path], None], *, verify: Callable[[Path], None] | None = None) -> Path:
    """Write a file whole or not at all.

    Args:
        path: the destination; its folder is made when missing.
        writer: writes the content to the path it is given.
        verify: raises when the written file is not what was meant; runs before the rename.

    Raises:
        ResourceError: the disk is full or not writable. The previous file is untouched.
    """
    temporary = temporary_sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        failpoint("open")
        writer(temporary)
        failpoint("pre-fsync")
        _sync(temporary)
        if verify is not None:
            verify(temporary)
        failpoint("pre-replace")
        os.replace(temporary, path)
        failpoint("post-replace")
        _sync(path.parent)
    except OSError as error:
        raise _resource_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def replace_dir(path: Path, writer: Callable[[Path], None]) -> Path:
    """Fill a folder whole or not at all; an existing folder at `path` is replaced.

    Raises:
        ResourceError: the disk is full or not writable. The previous folder is untouched.
    """
    temporary = temporary_sibling(path)
    try:
        temporary.mkdir(parents=True)
        failpoint("open")
        writer(temporary)
        return place_dir(temporary, path)
    except OSError as error:
        raise _resource_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def place_dir(folder: Path, path: Path) -> Path:
    """Sync a finished folder and give it the name `path`, on the same file system; what is there is replaced.

    Raises:
        ResourceError: the disk is full or not writable. The previous folder is untouched, and so is `folder`.
    """
    temporary = folder if folder.name.startswith(TEMPORARY_PREFIX) else temporary_sibling(path)
    old = temporary.with_name(temporary.name + "-old")
    placed = False
    try:
        failpoint("pre-fsync")
        for file in sorted(folder.rglob("*")):
            _sync(file)
        _sync(folder)
        if temporary != folder:
            os.replace(folder, temporary)  # a kill from here on leaves what `sweep` knows
        failpoint("pre-replace")
        if not (path.exists() and _exchange(temporary, path)):
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
        placed = True
        failpoint("post-replace")
        _sync(path.parent)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        if not placed and temporary != folder and temporary.exists():
            os.replace(temporary, folder)
        raise _resource_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return replace_file(path, lambda temporary: _write(temporary, text.encode()))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write bytes atomically."""
    return replace_file(path, lambda temporary: _write(temporary, data))


def sweep(folder: Path) -> int:
    """Remove what killed writers left directly in `folder` (not those of living processes); return how many."""
    removed = 0
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        pid = leftover.name[len(TEMPORARY_PREFIX) :].split("-", 1)[0]
        if pid.isdigit() and _alive(int(pid)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
        removed += 1
    return removed


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step, so that no kill finds neither; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    failed: int = renameat2(_HERE, os.fsencode(one.absolute()), _HERE, os.fsencode(other.absolute()), _EXCHANGE)
    return not failed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        half = len(data) // 2
        file.write(data[:half])
        failpoint("mid-write")
        file.write(data[half:])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resource_error(error: OSError, path: Path) -> ResourceError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return ResourceError(
        "no space left" if full else "cannot write",
        where=path,
        why=error.strerror or str(error),
        fix="free some disk space or choose another folder, then run the same command again"
        if full
        else "check the folder's permissions or choose another one",
    )
