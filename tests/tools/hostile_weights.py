"""Weights files that must be refused: every one of them is made here, from code, when a test asks for it."""

import argparse
import collections
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch


class Bomb:
    """Runs a command when it is unpickled by an unsafe reader."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


class Custom:
    """A class of somebody's training code."""


class Arguments(argparse.Namespace):
    """Somebody's own kind of namespace: not the one class that a public checkpoint carries."""


def safetensors_bytes(header: dict[str, object] | str, payload: bytes = b"") -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + payload


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def hostile_files(folder: Path, canary: Path) -> Iterator[tuple[str, Path]]:
    """(what is wrong, file) of every hostile or damaged file."""

    def torch_file(name: str, value: object, **options: bool) -> Path:
        path = folder / f"{name}.pth"
        torch.save(value, path, **options)
        return path

    def raw(name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    tensor = torch.arange(6.0)
    bomb = Bomb(canary)
    yield "runs a command", torch_file("system", {"weight": tensor, "x": bomb})
    yield "runs a command, legacy format", torch_file("legacy", {"x": bomb}, _use_new_zipfile_serialization=False)
    yield "a pickle inside a pickle", torch_file("nested", {"model": {"state_dict": {"x": bomb}}})
    yield "a bare pickle that runs a command", raw("pickle.pth", pickle.dumps({"x": bomb}))
    yield "a protocol-0 pickle that runs a command", raw("pickle0.pt", pickle.dumps({"x": bomb}, protocol=0))
    yield "a whole module", torch_file("module", torch.nn.Linear(2, 2))
    yield "somebody's class", torch_file("custom", {"weight": tensor, "args": Custom()})
    yield "a path object", torch_file("path", {"weight": tensor, "at": folder})
    yield "an args namespace nobody allowed", torch_file("args", {"weight": tensor, "args": argparse.Namespace(a=1)})
    yield (
        "a namespace that holds a command",
        torch_file("args_bomb", {"model_state_dict": {"weight": tensor}, "args": argparse.Namespace(a=bomb)}),
    )
    yield (
        "a namespace that holds somebody's class",
        torch_file("args_custom", {"model_state_dict": {"weight": tensor}, "args": argparse.Namespace(a=Custom())}),
    )
    yield "another kind of namespace", torch_file("args_kind", {"weight": tensor, "args": Arguments(a=1)})
    yield "no tensors", torch_file("empty_dict", {"epoch": 3, "names": ["a"]})
    yield "a list", torch_file("list", [tensor])
    yield "a number", torch_file("number", 5)
    yield "a sparse tensor", torch_file("sparse", {"weight": tensor.to_sparse()})
    yield "a tensor larger than its memory", torch_file("expanded", {"weight": tensor[:1].expand(10_000_000)})
    whole = torch_file("whole", collections.OrderedDict(weight=torch.randn(1000))).read_bytes()
    yield "half a file", raw("half.pth", whole[: len(whole) // 2])
    yield "all but the last bytes", raw("cut.pth", whole[:-30])
    yield "an empty file", raw("empty.pth", b"")
    yield "text", raw("text.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    yield "a web page", raw("page.pth", b"<!DOCTYPE html><html><body>404</body></html>")
    with zipfile.ZipFile(folder / "zip.pth", "w") as archive:
        archive.writestr("a/readme.txt", "no checkpoint")
    yield "an archive of something else", folder / "zip.pth"
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
    yield "an archive that unpacks to much more", folder / "bomb.pth"

    good = safetensors_bytes({"weight": entry([4], 0, 16)}, b"\0" * 16)
    yield "header of 2^63 bytes", raw("header.safetensors", struct.pack("<Q", 2**63) + b"{}")
    yield "header longer than the file", raw("long.safetensors", struct.pack("<Q", 10_000) + b"{}")
    yield "header that is no JSON", raw("json.safetensors", safetensors_bytes("{'weight': 1"))
    yield "truncated tensors", raw("short.safetensors", good[:-5])
    yield "bytes after the tensors", raw("tail.safetensors", good + b"extra")
    yield (
        "overlapping tensors",
        raw("overlap.safetensors", safetensors_bytes({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, b"\0" * 24)),
    )
    yield "tensors past the end", raw("past.safetensors", safetensors_bytes({"a": entry([4], 0, 16)}, b"\0" * 8))
    yield (
        "shape that the bytes do not fill",
        raw("shape.safetensors", safetensors_bytes({"a": entry([2**40], 0, 16)}, b"\0" * 16)),
    )
    yield (
        "a shape that overflows",
        raw("overflow.safetensors", safetensors_bytes({"a": entry([2**62, 8], 0, 16)}, b"\0" * 16)),
    )
    yield (
        "unknown number format",
        raw("dtype.safetensors", safetensors_bytes({"a": entry([4], 0, 16, dtype="os.system")}, b"\0" * 16)),
    )
    yield "a pickle called safetensors", raw("renamed.safetensors", pickle.dumps({"x": bomb}))
    yield "no tensors in safetensors", raw("none.safetensors", safetensors_bytes({}))
