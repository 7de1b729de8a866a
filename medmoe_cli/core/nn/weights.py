"""Tensor files: the only module that opens them.

Own files are safetensors. Foreign files (.pth, .pt, .safetensors) enter through `read_foreign`: no code is ever run,
what is not a plain tensor is refused or left out, and there is no unsafe way around it.
"""

from __future__ import annotations

import argparse
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - torch raises it; nothing is unpickled here

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Size, Tensor, nn

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import CheckpointError

Resize = Callable[[str, Tensor, Size], Tensor | None]

_NESTED = ("model_state_dict", "state_dict", "model")
# What torch's reader raises on files that are damaged or hostile; anything else is a bug.
_READ_ERRORS = (
    RuntimeError,
    UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    OSError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyReport:
    """What became of a file's tensors when they were put into a model; names, in the model's or the file's order.

    Attributes:
        loaded: copied as they are, or after resizing.
        resized: of these, the position tables that were resized.
        missing: of the model, absent from the file; they keep their values.
        unexpected: of the file, unknown to the model.
    """

    loaded: tuple[str, ...]
    resized: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def line(self) -> str:
        """Counts for a log."""
        return (
            f"{len(self.loaded)} loaded ({len(self.resized)} resized), {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected"
        )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file, whole or not at all.

    Views and tensors that share memory are written as copies.

    Raises:
        ResourceError: no space, or not writable.
    """
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        own[name] = plain

    def write(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        try:
            save_file(own, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise _as_os_error(error) from error
        temporary.chmod(mode)  # safetensors makes its files private; honour the umask like any other file

    return atomic.replace_file(path, write)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: absent, damaged, or not safetensors.
    """
    _require_file(path)
    try:
        return load_file(path)
    except (SafetensorError, *_READ_ERRORS) as error:
        raise CheckpointError(
            "damaged weights file", where=path, why=_short(error), fix="restore the file from its source"
        ) from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a safetensors file, from its header alone; the header is checked against the file.

    Raises:
        CheckpointError: absent, damaged, or not safetensors.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, *_READ_ERRORS) as error:
        raise CheckpointError(
            "damaged weights file", where=path, why=_short(error), fix="restore the file from its source"
        ) from error


def read_foreign(path: Path, *, allow_namespace: bool = False) -> dict[str, Tensor]:
    """Read a checkpoint that others made: the tensors of its model, by name.

    Nested checkpoints (`model_state_dict`, `state_dict`, `model`) are unwrapped, a `module.` that every name begins
    with is removed, and what is not a tensor is left out.

    Args:
        path: a .safetensors file, or anything else as torch saved it.
        allow_namespace: accept an `argparse.Namespace` in the file, which sam_med3d_turbo.pth carries; it is left
            out. No other class is ever accepted.

    Raises:
        CheckpointError: absent, damaged, holding a class or function, or without tensors.
    """
    _require_file(path)
    if path.suffix == ".safetensors":
        return _plain_tensors(load_tensors(path), path)
    return _plain_tensors(_unwrap(_read_torch(path, allow_namespace=allow_namespace)), path)


@torch.no_grad()
def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], *, resize: Resize | None = None, where: str | Path = "weights"
) -> KeyReport:
    """Copy tensors into a module's parameters and buffers of the same name; all of them or, on an error, none.

    Args:
        module: receives the values; its dtypes and devices stay.
        tensors: by name.
        resize: gives a tensor of the wanted shape, or None when it cannot (`sam2d.resize_table`).
        where: named in errors.

    Raises:
        CheckpointError: no name matches, or a shape differs that `resize` cannot change.
    """
    own = module.state_dict()
    fitting: dict[str, Tensor] = {}
    resized, misfits = [], []
    for name, target in own.items():
        source = tensors.get(name)
        if source is None:
            continue
        if source.shape != target.shape:
            fitted = resize(name, source, target.shape) if resize is not None else None
            if fitted is None:
                misfits.append(f"{name} is {tuple(source.shape)}, not {tuple(target.shape)}")
                continue
            source = fitted
            resized.append(name)
        fitting[name] = source
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise CheckpointError(
            "weights of another shape",
            where=where,
            why="; ".join(misfits[:3]) + more,
            fix="use weights made for this architecture",
        )
    if not fitting:
        raise CheckpointError(
            "no tensor fits the model",
            where=where,
            why=f"it holds {_examples(tensors)}, the model has {_examples(own)}",
            fix="use weights made for this architecture",
        )
    for name, source in fitting.items():
        own[name].copy_(source)
    return KeyReport(
        loaded=tuple(fitting),
        resized=tuple(resized),
        missing=tuple(name for name in own if name not in fitting),
        unexpected=tuple(name for name in tensors if name not in own),
    )


def refuse_missing(missing: Sequence[str], *, name: str) -> None:
    """Refuse a backbone that lacks tensors.

    Raises:
        CheckpointError: it does; the first ones are named.
    """
    if missing:
        raise CheckpointError(
            f"{len(missing)} tensors are missing",
            where=f"backbone '{name}'",
            why=", ".join(missing[:3]) + (" and more" if len(missing) > 3 else ""),
            fix=f"medmoe models show {name}",
        )


def _read_torch(path: Path, *, allow_namespace: bool) -> object:
    try:
        _refuse_bomb(path)
        with (
            torch.serialization.safe_globals([argparse.Namespace] if allow_namespace else []),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about the pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - this is the place
    except UnpicklingError as error:
        text = str(error)
        found = re.search(r"GLOBAL (\S+)", text) or re.search(r"safe_globals\(\[(\S+?)\]\)", text)
        if found is None:
            raise CheckpointError(
                "not a readable checkpoint",
                where=path,
                why="it is no file that torch saved, or it holds more than tensors",
                fix="download the file again, or save its state_dict() alone as .safetensors",
            ) from error
        raise CheckpointError(
            "refused to load",
            where=path,
            why=f"it holds {found[1]}, which could run code",
            fix="save its state_dict() alone, as .safetensors, and add that",
        ) from error
    except _READ_ERRORS as error:
        raise CheckpointError(
            "not a readable checkpoint", where=path, why=_short(error), fix="download the file again from its source"
        ) from error


def _refuse_bomb(path: Path) -> None:
    """Torch stores without compression, so a member that unpacks to more than the file holds is no checkpoint."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        declared = sum(member.file_size for member in archive.infolist())
    if declared > path.stat().st_size:
        raise ValueError(f"it unpacks to {declared} bytes, more than the file's {path.stat().st_size}")


def _unwrap(value: object) -> object:
    """The innermost state dict of a nested checkpoint."""
    while isinstance(value, Mapping):
        inner = next((value[key] for key in _NESTED if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        value = inner
    return value


def _plain_tensors(value: object, path: Path) -> dict[str, Tensor]:
    """The named tensors of a state dict, each of them dense and no larger than the memory behind it."""
    items = value.items() if isinstance(value, Mapping) else ()
    tensors = {name: tensor for name, tensor in items if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not tensors:
        raise CheckpointError(
            "no tensors found",
            where=path,
            why=f"a state dict was expected, this holds {type(value).__name__}",
            fix="add a file that torch.save(model.state_dict(), ...) wrote",
        )
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(
                "unusable tensor", where=path, why=f"{name} is not a dense tensor", fix="save a plain state_dict()"
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                "unusable tensor",
                where=path,
                why=f"{name} claims shape {tuple(tensor.shape)}, more than the file holds",
                fix="download the file again from its source",
            )
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _require_file(path: Path) -> None:
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError("weights not found", where=path, why=why, fix="check the path")


def _as_os_error(error: SafetensorError) -> OSError:
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else 0, _short(error))


def _short(error: BaseException) -> str:
    """The first sentence of an error's message, or its kind when it has none worth reading."""
    lines = str(error).strip().splitlines()
    text = lines[0].split(". ")[0][:200] if lines else ""
    return text if " " in text else f"{type(error).__name__} {text}".strip()


def _examples(tensors: Mapping[str, Tensor]) -> str:
    names = list(tensors)
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "") if names else "nothing"
