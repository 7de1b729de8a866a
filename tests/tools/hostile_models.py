"""Shared models that must be refused: archives and folders, each made from a good one, each with one thing wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.tools.hostile_weights import Bomb, entry, safetensors_bytes

Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    """A good model's files by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def zipped(path: Path, files: Mapping[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]], **options: Any) -> Path:
    compression = options.pop("compression", zipfile.ZIP_STORED)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression, **options) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice: it is meant
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, data)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    """A member that says it is a link, a device, ..."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def again(files: Files, change: Callable[[dict[str, Any]], object] | None = None, **replaced: bytes) -> Files:
    """The files with other content whose record is brought up to date: only what is meant to be wrong is wrong."""
    files = dict(files) | {name.replace("__", "."): data for name, data in replaced.items()}
    record = json.loads(files["model.json"])
    for kind in ("files", "documents"):
        for name in record[kind]:
            record[kind][name] = {"sha256": sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    if change is not None:
        change(record)
    return files | {"model.json": json.dumps(record).encode()}


def hostile_archives(folder: Path, good: Files, canary: Path) -> Iterator[tuple[str, Path]]:
    """(what is wrong, file) of every bundle that import must refuse with exit code 4."""

    def path(name: str) -> Path:
        return folder / f"{name}.zip"

    def with_member(name: str, member: str | zipfile.ZipInfo, data: bytes = b"x") -> Path:
        return zipped(path(name), [*good.items(), (member, data)])

    yield "a path that leaves the folder", with_member("dotdot", "../../escaped.md")
    yield "a path that leaves by way of experts", with_member("dotdot2", "experts/../../escaped.safetensors")
    yield "an absolute path", with_member("absolute", str(canary))
    yield "a drive", with_member("drive", "C:\\escaped.md")
    yield "backslashes", with_member("backslash", "..\\escaped.md")
    yield "a name with a zero byte", _patched(with_member("zero", "LICENSE#.md"), b"LICENSE#.md", b"LICENSE\0.md")
    yield "a link", with_member("link", special("experts/a.safetensors", stat.S_IFLNK), b"/etc/passwd")
    yield (
        "a link in place of the card",
        zipped(
            path("link2"),
            [
                *((name, data) for name, data in good.items() if name != "MODEL_CARD.md"),
                (special("MODEL_CARD.md", stat.S_IFLNK), str(canary).encode()),
            ],
        ),
    )
    yield "a device", with_member("device", special("experts/b.safetensors", stat.S_IFCHR), b"")
    yield "a pipe", with_member("pipe", special("experts/c.safetensors", stat.S_IFIFO), b"")
    yield "names that differ by case", with_member("case", "Model.JSON")
    yield (
        "experts that differ by case",
        zipped(path("case2"), [*good.items(), ("experts/a.safetensors", b"x"), ("experts/A.safetensors", b"x")]),
    )
    yield "a member twice", with_member("twice", "model.json", good["model.json"])
    yield "code", with_member("code", "model.py", b"import os")
    yield "a pickle", with_member("pickle", "weights.pth", pickle.dumps(Bomb(canary)))
    yield "a zip in a zip", with_member("nested", "more.zip", zipped(path("inner"), good).read_bytes())
    yield "a hidden file", with_member("hidden", ".bashrc")
    yield "a folder", with_member("folder", "experts/")
    yield "a folder around it", zipped(path("around"), {f"model/{name}": data for name, data in good.items()})
    bomb = {"model.json": good["model.json"], "experts/big.safetensors": b"\0" * (30 << 20)}
    yield "a bomb", zipped(path("bomb"), bomb, compression=zipfile.ZIP_DEFLATED)
    yield "a document without end", zipped(path("long"), again(good, LICENSE=b"." * ((4 << 20) + 1)))
    yield "a million members", _crowd(path("crowd"))
    yield "a size of ten gigabytes", _resized(zipped(path("declared"), good), b"LICENSE", 10 * 10**9 % 2**32)
    yield "fewer bytes than there are", _resized(zipped(path("fewer"), good), b"LICENSE", 3)
    yield "members that overlap", _overlapping(zipped(path("overlap"), good))
    yield "a secret", _encrypted(zipped(path("secret"), good))
    yield (
        "a way of compressing that takes memory",
        zipped(path("lzma"), {"LICENSE": b"MIT"}, compression=zipfile.ZIP_LZMA),
    )
    yield "half an archive", _cut(zipped(path("half"), good), 0.5)
    yield "an archive without its end", _cut(zipped(path("end"), good), 0.995)
    yield "a changed byte", _flipped(zipped(path("byte"), good), good["model.safetensors"])
    yield "nothing", zipped(path("empty"), {})
    yield "a web page", _raw(path("page"), b"<!DOCTYPE html><html>404</html>")
    yield "no bytes", _raw(path("nothing"), b"")
    yield "a tar with a hard link", _tar(path("tar"), good)

    def changed(name: str, change: Callable[[dict[str, Any]], object], **replaced: bytes) -> Path:
        return zipped(path(name), again(good, change, **replaced))

    yield "another sha256", changed("sha", lambda r: r["files"]["model.safetensors"].update(sha256="0" * 64))
    yield (
        "another sha256 of the card",
        changed("sha2", lambda r: r["documents"]["MODEL_CARD.md"].update(sha256="0" * 64)),
    )
    yield "another size", changed("bytes", lambda r: r["files"]["model.safetensors"].update(bytes=5))

    def names_too(name: str) -> Callable[[dict[str, Any]], object]:
        return lambda r: r["files"].update({name: r["files"]["model.safetensors"]})

    yield "a file that is not there", changed("gone", names_too("experts/x.safetensors"))
    yield "a file that is named outside", changed("outside", names_too("../../x"))
    yield "weights that are named nowhere", with_member("unnamed", "experts/x.safetensors", good["model.safetensors"])
    yield "no weights", zipped(path("light"), {name: good[name] for name in good if name != "model.safetensors"})
    yield "no record", zipped(path("recordless"), {name: data for name, data in good.items() if name != "model.json"})
    yield "a backbone", changed("backbone", lambda r: r.update(kind="backbone"))
    yield "another schema", changed("schema", lambda r: r.update(schema_version=99))
    yield "a method that is a function", changed("method", lambda r: r.update(method="os.system"))
    yield "keys that no method has", changed("keys", lambda r: r["model"].update(__import__="os"))
    yield "a network of terabytes", changed("huge", lambda r: r["model"].update(width=4096, heads=1, depth=400))
    yield "a network of a billion blocks", changed("deep", lambda r: r["model"].update(depth=10**9))
    yield "a size written as text", changed("text", lambda r: r["model"].update(depth="1000000000"))
    yield "a plan of nothing", changed("plan", lambda r: r.update(plan={}))
    yield "an input of a million pixels", changed("input", lambda r: r["plan"].update(input_size=10**6))
    yield (
        "classes that the weights lack",
        changed("classes", lambda r: r["plan"].update(labels={"a": 1, "b": 2, "c": 3})),
    )
    yield "NaN", _record(path("nan"), good, b'{"kind": NaN}')
    yield "JSON without end", _record(path("deepjson"), good, b"[" * 200_000)
    yield "a number of a million digits", _record(path("digits"), good, b'{"kind": ' + b"9" * 1_000_000 + b"}")
    yield "JSON that is a list", _record(path("list"), good, b"[]")
    yield "JSON that is no text", _record(path("bytes2"), good, b"\xff\xfe\x00")

    def weights(name: str, data: bytes) -> Path:
        return zipped(path(name), again(good, model__safetensors=data))

    yield "a pickle called safetensors", weights("renamed", pickle.dumps({"x": Bomb(canary)}))
    yield "a header of 2^63 bytes", weights("header", struct.pack("<Q", 2**63) + b"{}")
    both = {"a": entry([4], 0, 16), "b": entry([4], 8, 24)}
    yield "tensors that overlap", weights("tensors", safetensors_bytes(both, b"\0" * 24))
    yield "tensors past the end", weights("past", safetensors_bytes({"a": entry([4], 0, 16)}, b"\0" * 8))
    yield "tensors of another network", weights("other", safetensors_bytes({"a": entry([4], 0, 16)}, b"\0" * 16))
    yield "no tensors", weights("none", safetensors_bytes({}))


def hostile_folders(folder: Path, good: Path, canary: Path) -> Iterator[tuple[str, Path]]:
    """The same for folders."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, folder / name))

    linked = copy("linked")
    (linked / "LICENSE").unlink()
    (linked / "LICENSE").symlink_to(canary)
    yield "a link to a file", linked
    outside = copy("outside")
    (outside / "experts").symlink_to(canary.parent, target_is_directory=True)
    yield "a link to a folder", outside
    pipe = copy("pipe")
    os.mkfifo(pipe / "experts")
    yield "a pipe", pipe
    extra = copy("extra")
    (extra / "setup.py").write_text("import os")
    yield "code", extra
    changed = copy("changed")
    (changed / "model.safetensors").write_bytes((changed / "model.safetensors").read_bytes()[:-1] + b"\1")
    yield "a changed byte", changed
    (folder / "empty").mkdir()
    yield "nothing", folder / "empty"
    yield "a path that is not there", folder / "nowhere.zip"


def _raw(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _record(path: Path, good: Files, data: bytes) -> Path:
    return zipped(path, good | {"model.json": data})


def _patched(path: Path, old: bytes, new: bytes) -> Path:
    return _raw(path, path.read_bytes().replace(old, new))


def _cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    return _raw(path, data[: int(len(data) * share)])


def _flipped(path: Path, inside: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[data.index(inside) + len(inside) // 2] ^= 1
    return _raw(path, bytes(data))


def _directory_entry(data: bytes, name: bytes) -> int:
    """Where the central directory speaks of a member."""
    at = data.rindex(name)
    return data.rindex(b"PK\x01\x02", 0, at)


def _resized(path: Path, name: bytes, size: int) -> Path:
    """Another uncompressed size in the directory than in the member."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, _directory_entry(bytes(data), name) + 24, size)
    return _raw(path, bytes(data))


def _overlapping(path: Path) -> Path:
    """Two members that share their bytes, as bombs without recursion do."""
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, _directory_entry(bytes(data), b"LICENSE") + 42)[0]
    struct.pack_into("<I", data, _directory_entry(bytes(data), b"MODEL_CARD.md") + 42, first)
    return _raw(path, bytes(data))


def _encrypted(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    at = _directory_entry(bytes(data), b"LICENSE")
    data[at + 8] |= 1
    return _raw(path, bytes(data))


def _crowd(path: Path) -> Path:
    """An end record that counts a million members, by way of zip64."""
    large = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 10**6, 10**6, 46 * 10**6, 0)
    locator = struct.pack("<IIQI", 0x07064B50, 0, 0, 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return _raw(path, large + locator + end)


def _tar(path: Path, good: Files) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in good.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("LICENSE2")
        link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
        archive.addfile(link)
    return path
