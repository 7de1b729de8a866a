"""Bundles of a few known files, as a zip or a folder: packed the same way each time, unpacked without trust.

A bundle from elsewhere is looked at whole before a byte of it is written: only names that the caller allows, each once,
plain files only, no more than the caller's sizes. What is written goes into a folder that the caller throws away when
anything is wrong.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import CheckpointError, ResourceError

LimitOf = Callable[[str], int | None]
"""The most bytes that a member of that name may have; None for a name that does not belong into the bundle."""

_MAX_MEMBERS = 1000
_MAX_DIRECTORY_BYTES = 1 << 20
# Weights hardly compress; zero-initialised parts do. What unpacks to more than this is no model.
_MAX_RATIO = 10
_FREE_RATIO_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_SHOWN = 3
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: equal content gives equal bytes
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    name: str
    size: int


def pack(path: Path, files: Mapping[str, Path]) -> Path:
    """Write a zip of files by member name, uncompressed, in the order given; equal files give equal bytes.

    Raises:
        ResourceError: the disk is full or not writable; an existing file is untouched.
    """

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, file in files.items():
                info = zipfile.ZipInfo(name, date_time=_EPOCH)
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                info.file_size = file.stat().st_size
                with file.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target, _BLOCK_BYTES)

    return atomic.replace_file(path, write)


def unpack(
    source: Path, target: Path, *, limit_of: LimitOf, passed_over: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Copy the members of a zip, or the files of a folder, into `target`.

    Args:
        source: the bundle.
        target: an empty folder.
        limit_of: which names are allowed, and how large each may be.
        passed_over: plain files of a folder that are no part of the bundle, and no harm.

    Returns:
        The names, sorted, with forward slashes.

    Raises:
        CheckpointError: the bundle is not one, is damaged, or holds anything that does not belong.
        ResourceError: there is no room for it.
    """
    if source.is_dir():
        return _copy_folder(source, target, limit_of, passed_over)
    if not source.is_file():
        raise CheckpointError("nothing to import", where=source, why="there is no such file", fix="check the path")
    try:
        _refuse_large_directory(source)
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            problems = [*_zip_problems(members, size=source.stat().st_size), *_problems(_plain(members), limit_of)]
            if problems:
                raise _refused(source, problems)
            _require_room(target, source, sum(member.file_size for member in members))
            for member in members:
                with archive.open(member) as stream:
                    _write(stream, target / member.filename, size=member.file_size, source=source)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise _damaged(source, str(error)) from error
    except (NotImplementedError, RuntimeError) as error:  # a way of compressing, or a secret, that zipfile lacks
        raise _damaged(source, str(error)) from error
    return tuple(sorted(member.filename for member in members))


def _copy_folder(source: Path, target: Path, limit_of: LimitOf, passed_over: frozenset[str]) -> tuple[str, ...]:
    members: list[_Member] = []
    problems: list[str] = []
    for folder, folders, files in os.walk(source):  # links to folders are listed, never entered
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            relative = path.relative_to(source).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and relative in passed_over:
                continue
            if stat.S_ISREG(mode):
                members.append(_Member(name=relative, size=path.lstat().st_size))
            elif not stat.S_ISDIR(mode):
                problems.append(f"{_shown(relative)} is no plain file")
        if len(members) > _MAX_MEMBERS:
            raise _refused(source, [f"it holds more than {_MAX_MEMBERS} files"])
    problems += _problems(members, limit_of)
    if problems:
        raise _refused(source, problems)
    _require_room(target, source, sum(member.size for member in members))
    for member in members:
        # A file swapped for a link since it was looked at is not followed.
        descriptor = os.open(source / member.name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as stream:
            _write(stream, target / member.name, size=member.size, source=source)
    return tuple(sorted(member.name for member in members))


def _write(stream: IO[bytes], path: Path, *, size: int, source: Path) -> None:
    """Copy exactly `size` bytes: a member that goes on beyond what it declared is refused, not believed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    copied = 0
    with path.open("xb") as file:
        while block := stream.read(_BLOCK_BYTES):
            copied += len(block)
            if copied > size:
                break
            file.write(block)
    if copied != size:
        raise _damaged(source, f"{path.name} does not have the {size} bytes it declares")


def _problems(members: Sequence[_Member], limit_of: LimitOf) -> list[str]:
    problems = [] if members else ["it holds nothing"]
    counted = Counter(member.name for member in members)
    folded = Counter(name.casefold() for name in counted)
    problems += [f"{_shown(name)} is there {count} times" for name, count in counted.items() if count > 1]
    problems += [
        f"{_shown(name)} differs from another name by case alone" for name in counted if folded[name.casefold()] > 1
    ]
    for member in members:
        limit = limit_of(member.name)
        if limit is None:
            problems.append(f"{_shown(member.name)} does not belong into a model")
        elif member.size > limit:
            problems.append(f"{_shown(member.name)} has {member.size} bytes, more than {limit}")
    return problems


def _zip_problems(members: Sequence[zipfile.ZipInfo], *, size: int) -> list[str]:
    problems = []
    for member in members:
        # Zip keeps a Unix file type in the upper half; 0 where the writer has none to tell.
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in {0, stat.S_IFREG} or member.is_dir():
            problems.append(f"{_shown(member.filename)} is no plain file")
        if member.flag_bits & _ENCRYPTED:
            problems.append(f"{_shown(member.filename)} is encrypted")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            problems.append(f"{_shown(member.filename)} is neither stored nor deflated")
        if member.orig_filename != member.filename:
            problems.append(f"{_shown(member.orig_filename)} is no plain name")
    problems += overlapping(members, size=size)
    unpacked = sum(member.file_size for member in members)
    if unpacked > _MAX_RATIO * size + _FREE_RATIO_BYTES:
        problems.append(f"it unpacks to {unpacked} bytes, more than {_MAX_RATIO} times its {size}")
    return problems


def overlapping(members: Sequence[zipfile.ZipInfo], *, size: int) -> list[str]:
    """Members of a zip of `size` bytes that share bytes with others: what small archives of endless content do."""
    problems = []
    ordered = sorted(members, key=lambda member: member.header_offset)
    for index, member in enumerate(ordered):
        end = ordered[index + 1].header_offset if index + 1 < len(ordered) else size
        if member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > end:
            problems.append(f"{_shown(member.filename)} overlaps what follows it")
    return problems


def _plain(members: Sequence[zipfile.ZipInfo]) -> list[_Member]:
    return [_Member(name=member.filename, size=member.file_size) for member in members]


def _refuse_large_directory(path: Path) -> None:
    members, size = zip_directory(path)
    if members > _MAX_MEMBERS or size > _MAX_DIRECTORY_BYTES:
        raise _refused(path, [f"it lists {members} members in {size} bytes, more than {_MAX_MEMBERS}"])


def zip_directory(path: Path) -> tuple[int, int]:
    """How many members a zip declares, and the bytes of its directory.

    Looks at the end record alone: reading the list of a million members would take the memory it is meant to take.
    PKWARE's APPNOTE, 4.3.14 to 4.3.16; found where Python's zipfile looks for it.

    Raises:
        zipfile.BadZipFile: there is no such record.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 22 - (1 << 16)))
        tail = file.read()
    at = len(tail) - 22
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise zipfile.BadZipFile("it has no zip directory")
    members, size = struct.unpack_from("<HI", tail, at + 10)
    large = at - 20 - 56  # the records of zip64 come before
    if large >= 0 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        large_members, large_size = struct.unpack_from("<QQ", tail, large + 32)
        members, size = (
            max(members if members != 0xFFFF else 0, large_members),
            max(size if size != 0xFFFFFFFF else 0, large_size),
        )
    return members, size


def _require_room(target: Path, source: Path, wanted: int) -> None:
    free = shutil.disk_usage(target).free
    if wanted > free:
        why = f"{source.name} unpacks to {wanted >> 20} MiB, {free >> 20} MiB are free"
        raise ResourceError("no space left", where=target.parent, why=why, fix="free some disk space, then try again")


def _shown(name: str) -> str:
    """A name from elsewhere, safe to print."""
    return ascii(name)[:80]


def _refused(source: Path, problems: Sequence[str]) -> CheckpointError:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return CheckpointError(
        "refused to unpack",
        where=source,
        why="; ".join(problems[:_SHOWN]) + more,
        fix="ask for a file that medmoe models export made",
    )


def _damaged(source: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "not a readable archive",
        where=source,
        why=" ".join(why.split())[:200] or "it ends too early",
        fix="get it again; a model is a zip or a folder that medmoe models export made",
    )
