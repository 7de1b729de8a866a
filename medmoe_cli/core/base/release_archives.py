"""Archives of public releases: zip and tar from anywhere, unpacked without trust into a folder that is thrown away.

Every member is looked at before a byte is written: plain files and folders only, with names that stay inside, none
twice, none that a file system without upper and lower case would confuse, no more than the disk holds. Junk of
operating systems (`__MACOSX`, `._x`) is left out.
"""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from medmoe_cli.core.base.archives import overlapping, zip_directory
from medmoe_cli.core.base.errors import DataError, ResourceError

OTHER_ARCHIVES = (".7z", ".rar")  # met as releases, not read
ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_MAX_MEMBERS = 2_000_000  # TotalSegmentator has 250 000
_MAX_DIRECTORY_BYTES = 1 << 30
# Deflate reaches 1032:1, on nothing but equal bytes; empty masks come close. Small archives are let be.
_MAX_RATIO = 500
_FREE_RATIO_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
_MAX_NAME_BYTES = 255
_SHOWN = 3
_ENCRYPTED = 0x1
_READ_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    UnicodeDecodeError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


class Entry(NamedTuple):
    """One member: `folder` members have no content."""

    name: str
    size: int
    folder: bool
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """What `unpack_release` wrote."""

    files: int
    size: int


def is_archive(path: Path) -> bool:
    """True for a file that is named as an archive is."""
    return path.name.lower().endswith(ARCHIVE_ENDINGS) and path.is_file()


def unpack_release(
    source: Path, target: Path, *, is_junk: Callable[[Path], bool], heard: Callable[[str], None] = lambda name: None
) -> Unpacked:
    """Unpack an archive into `target`, an existing folder.

    Args:
        source: a zip or tar file.
        target: where its content goes; files that are there already are never overwritten.
        is_junk: members to leave out, by their path.
        heard: told the name of every file.

    Raises:
        DataError: no archive, a damaged one, or one that holds anything else than plain files and folders.
        ResourceError: there is no room for it.
    """
    reader = _Zip if source.name.lower().endswith(".zip") or zipfile.is_zipfile(source) else _Tar
    try:
        with closing(reader(source)) as archive:
            entries = _looked_at(source, target, archive, is_junk)
            wanted = {entry.name for entry in entries}
            for name, size, stream in archive.contents(wanted):
                _write(stream, target / name, size=size, source=source)
                heard(name)
    except _READ_ERRORS as error:
        raise _damaged(source, str(error)) from error
    except OSError as error:
        # gzip's and bz2's own ('CRC check failed') have no number; false offsets of a zip make a seek invalid.
        if error.errno in {None, errno.EINVAL}:
            raise _damaged(source, str(error)) from error
        raise _cannot_write(target, error) from error
    return Unpacked(files=len(entries), size=sum(entry.size for entry in entries))


class _Zip:
    """Members of a zip."""

    def __init__(self, source: Path) -> None:
        members, directory = zip_directory(source)
        if members > _MAX_MEMBERS or directory > _MAX_DIRECTORY_BYTES:
            raise _refused(source, [f"it lists {members} members in {directory} bytes"])
        self.source, self.archive = source, zipfile.ZipFile(source)

    def close(self) -> None:
        self.archive.close()

    def entries(self) -> Iterator[Entry]:
        infos = self.archive.infolist()
        for problem in overlapping(infos, size=self.source.stat().st_size)[:_SHOWN]:
            yield Entry("", 0, False, problem)
        for info in infos:
            yield Entry(info.filename.rstrip("/"), info.file_size, info.is_dir(), self._problem(info))

    def contents(self, wanted: set[str]) -> Iterator[tuple[str, int, IO[bytes]]]:
        for info in self.archive.infolist():
            if info.filename in wanted:
                with self.archive.open(info) as stream:
                    yield info.filename, info.file_size, stream

    def _problem(self, info: zipfile.ZipInfo) -> str:
        # Zip keeps a Unix file type in the upper half; 0 where the writer has none to tell.
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG}:
            return "is a link" if kind == stat.S_IFLNK else "is no plain file"
        if info.flag_bits & _ENCRYPTED:
            return "is encrypted"
        if info.orig_filename != info.filename:
            return "is no plain name"
        return ""


class _Tar:
    """Members of a tar, compressed or not; read once to look at them and once to unpack them."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.archive = tarfile.open(source, "r:*")  # noqa: SIM115 - closed by close()

    def close(self) -> None:
        self.archive.close()

    def entries(self) -> Iterator[Entry]:
        for member in self.archive:
            yield Entry(member.name.removeprefix("./"), member.size, member.isdir(), self._problem(member))
        self._require_end()

    def contents(self, wanted: set[str]) -> Iterator[tuple[str, int, IO[bytes]]]:
        self.archive.close()
        self.archive = tarfile.open(self.source, "r|*")  # noqa: SIM115 - closed by close()
        for member in self.archive:
            name = member.name.removeprefix("./")
            stream = self.archive.extractfile(member) if name in wanted else None
            if stream is not None:
                yield name, member.size, stream

    def _require_end(self) -> None:
        """A damaged header in the middle looks like the end to tarfile; a true end is a block of zeros."""
        file = self.archive.fileobj
        assert file is not None
        file.seek(self.archive.offset)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
            raise tarfile.ReadError("it breaks off in the middle, or a header is damaged")

    def _problem(self, member: tarfile.TarInfo) -> str:
        if member.issym() or member.islnk():
            return "is a link"
        if not (member.isreg() or member.isdir()) or member.issparse():
            return "is no plain file"
        return ""


def _looked_at(source: Path, target: Path, archive: _Zip | _Tar, is_junk: Callable[[Path], bool]) -> list[Entry]:
    """The files to unpack, once all members are known to be harmless and to fit."""
    free = shutil.disk_usage(target).free
    size, total = source.stat().st_size, 0
    files: list[Entry] = []
    folders: set[str] = set()
    problems: list[str] = []
    for count, entry in enumerate(archive.entries(), start=1):
        if count > _MAX_MEMBERS:
            raise _refused(source, [f"it holds more than {_MAX_MEMBERS} members"])
        if not entry.name and not entry.problem:
            continue  # the folder '.' itself
        problem = entry.problem or _name_problem(entry.name)
        if problem:
            problems.append(f"{_shown(entry.name)} {problem}" if entry.name else problem)
            continue
        if is_junk(Path(entry.name)) or any(is_junk(Path(part)) for part in PurePosixPath(entry.name).parts):
            continue
        if entry.folder:
            folders.add(entry.name)
            continue
        files.append(entry)
        total += entry.size
        if total > free:  # said at once: reading on is what a bomb wants
            why = f"{source.name} unpacks to {total >> 20} MiB or more, {free >> 20} MiB are free"
            raise ResourceError("no space left", where=target.parent, why=why, fix="free some disk space, or unpack it")
        if total > _MAX_RATIO * size + _FREE_RATIO_BYTES:
            problems.append(f"it unpacks to {total} bytes or more, over {_MAX_RATIO} times its {size}")
            break
    problems += _clashes(files, folders)
    if not files and not problems:
        problems.append("it holds no file")
    if problems:
        raise _refused(source, problems)
    return files


def _name_problem(name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute name"
    if ".." in parts:
        return "leads out of the folder"
    if "\\" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
        return "is no plain name"
    if any(part in {"", "."} or len(part.encode(errors="surrogateescape")) > _MAX_NAME_BYTES for part in parts):
        return "is no plain name"
    return ""


def _clashes(files: Sequence[Entry], folders: set[str]) -> list[str]:
    problems: list[str] = []
    spelled: dict[str, str] = {}
    names = {entry.name for entry in files}
    for entry in files:
        parents = [str(parent) for parent in PurePosixPath(entry.name).parents][:-1]
        folders.update(parents)
    seen: set[str] = set()
    for entry in files:
        if entry.name in seen:
            problems.append(f"{_shown(entry.name)} is there several times")
        seen.add(entry.name)
    problems += [f"{_shown(name)} is a file and a folder" for name in sorted(names & folders)]
    for name in sorted(names | folders):
        other = spelled.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            problems.append(f"{_shown(name)} differs from {_shown(other)} by case alone")
    return problems


def _write(stream: IO[bytes], path: Path, *, size: int, source: Path) -> None:
    """Copy exactly `size` bytes: a member that goes on beyond what it declared is refused, not believed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if path.stat().st_size != size or path.read_bytes() != stream.read(size + 1):
            raise _refused(source, [f"{_shown(path.name)} is there already, another one from another archive"])
        return  # a licence that comes with each part
    copied = 0
    with path.open("xb") as file:
        while block := stream.read(_BLOCK_BYTES):
            copied += len(block)
            if copied > size:
                break
            file.write(block)
    if copied != size:
        raise _damaged(source, f"{path.name} does not have the {size} bytes it declares")


def _shown(name: str) -> str:
    """A name from elsewhere, safe to print."""
    return ascii(name)[:80]


def _refused(source: Path, problems: Sequence[str]) -> DataError:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    encrypted = any(problem.endswith("is encrypted") for problem in problems)
    fix = (
        f"unpack it with its password (7z x {source.name}), then convert the folder"
        if encrypted
        else "unpack it by hand if you trust it, then convert the folder"
    )
    return DataError("refused to unpack", where=source, why="; ".join(problems[:_SHOWN]) + more, fix=fix)


def _damaged(source: Path, why: str) -> DataError:
    return DataError(
        "not a readable archive",
        where=source,
        why=" ".join(why.split())[:200] or "it ends too early",
        fix="get it again; zip, tar, tar.gz, tar.bz2 and tar.xz are read",
    )


def _cannot_write(target: Path, error: OSError) -> ResourceError:
    return ResourceError(
        "cannot unpack", where=target, why=error.strerror or str(error), fix="free some disk space, then try again"
    )
