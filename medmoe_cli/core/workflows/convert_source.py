"""Where a conversion reads: a folder, a zip or tar unpacked into a temporary folder, or a folder full of those."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import MedMoEError, ProblemList, ResourceError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.release_archives import is_archive, unpack_release
from medmoe_cli.core.data.converters.registry import recognise, require_source
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.write_case import Spelling
from medmoe_cli.core.imaging.formats import is_junk


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenSource:
    """A source ready to be read.

    Attributes:
        root: its folder.
        spelling: how its paths are written where people read them.
        note: what was unpacked, or left packed; '' for a folder without archives.
    """

    root: Path
    spelling: Spelling
    note: str = ""


@contextmanager
def open_source(source: Path, place: Path, *, reporter: Reporter) -> Iterator[OpenSource]:
    """A folder as it is; archives unpacked below `place`, in a folder that is removed when the conversion ends.

    What a killed conversion left there is removed first.

    Args:
        source: a folder, a zip or tar file, or a folder that holds nothing readable but such files.
        place: the workspace's datasets.
        reporter: hears of the unpacking.

    Raises:
        DataError: there is no such source, or an archive that is damaged or not to be trusted.
        ResourceError: no room to unpack.
    """
    if place.is_dir():
        atomic.sweep(place)
    archives = [source] if is_archive(source) else _archives_in(source)
    if not archives:
        require_source(source)
        yield OpenSource(root=source, spelling=Spelling(), note=_left_packed(source))
        return
    made = _made(place)
    folder = atomic.temporary_sibling(place / "source")
    spelling = Spelling(folder=str(folder), name=str(source.resolve()))
    try:
        try:
            folder.mkdir()
        except OSError as error:
            why = error.strerror or str(error)
            raise ResourceError("cannot write", where=place, why=why, fix="choose another --workspace") from error
        files = size = 0
        for archive in archives:
            reporter.start(f"unpack {archive.name}", None)
            done = unpack_release(archive, folder, is_junk=is_junk, heard=reporter.update)
            reporter.finish()
            files, size = files + done.files, size + done.size
        names = ", ".join(archive.name for archive in archives[:3]) + (", ..." if len(archives) > 3 else "")
        note = f"unpacked {names}: {files} files, {size / (1 << 20):.1f} MiB, removed again at the end"
        yield OpenSource(root=folder, spelling=spelling, note=note)
    except MedMoEError as error:
        _respell(error, spelling)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()


def _archives_in(source: Path) -> list[Path]:
    """The archives directly in a folder that looks like nothing else; releases come in parts."""
    if not source.is_dir():
        return []
    found = sorted(path for path in source.iterdir() if is_archive(path) and not is_junk(path))
    return found if found and recognise(source) is None else []


def _left_packed(source: Path) -> str:
    """What to say of archives beside the folders that are read."""
    found = sorted(path.name for path in source.iterdir() if is_archive(path) and not is_junk(path))
    return f"archives beside the folders are not read, unpack them first: {some(found)}" if found else ""


def _made(place: Path) -> list[Path]:
    """Make a folder; the ones that were not there, innermost first."""
    missing = [path for path in (place, *place.parents) if not path.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise ResourceError("cannot write", where=place, why=why, fix="choose another --workspace") from error
    return missing


def _respell(error: MedMoEError, spelling: Spelling) -> None:
    """Let an error name paths as the user knows them."""
    for one in (error, *(error.problems if isinstance(error, ProblemList) else ())):
        for name in ("what", "where", "why", "fix"):
            setattr(one, name, spelling(getattr(one, name)))
        one.args = (one.line(),)
