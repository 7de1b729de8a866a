"""SAM3's public weights as they come: a folder of transformers, or the original sam3.pt; nothing in them is run.

Besides the weights a text-prompted model needs its tokenizer, and its sizes. Both become tensors beside the weights
(`TOKENIZER`, `SIZES`), so that what has been added is one file with one sha256.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.config.sam3 import PUBLISHED, Sam3Sizes
from medmoe_cli.core.nn.sam3.hf import sizes_of
from medmoe_cli.core.nn.sam3.names import Renamed, to_transformers
from medmoe_cli.core.nn.sam3.tokens import merge_table
from medmoe_cli.core.nn.weights import read_foreign

TOKENIZER, SIZES = "tokenizer.merges", "sizes"
CONFIG_FILE = "config.json"
_WEIGHTS = ("*.safetensors", "*.pt", "*.pth")
_TOKENIZERS = ("tokenizer.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz")
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sam3Source:
    """What lies at a path.

    Attributes:
        weights: files of tensors, by name.
        config: config.json; None for the original release, which is of the published sizes.
        tokenizer: the file that the merges are read from.
    """

    weights: tuple[Path, ...]
    config: Path | None
    tokenizer: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read."""
        return (*self.weights, *((self.config,) if self.config is not None else ()), self.tokenizer)


def find_source(path: Path) -> Sam3Source:
    """The files of a SAM3: in a folder, or beside a checkpoint.

    Raises:
        CheckpointError: weights or tokenizer are missing.
    """
    folder = path if path.is_dir() else path.parent
    weights = (path,) if path.is_file() else _weights_in(folder)
    if not weights:
        raise CheckpointError(
            "no SAM3 weights",
            where=path,
            why="it holds no .safetensors, .pt or .pth file" if path.is_dir() else "there is no such file",
            fix="name the folder with facebook/sam3's files, or the file sam3.pt",
        )
    tokenizer = next((folder / name for name in _TOKENIZERS if (folder / name).is_file()), None)
    if tokenizer is None:
        raise CheckpointError(
            "SAM3 without its tokenizer",
            where=folder,
            why=f"none of {', '.join(_TOKENIZERS)} is there",
            fix=f"put tokenizer.json of facebook/sam3 into {folder}, or {_TOKENIZERS[2]} of the original release",
        )
    config = folder / CONFIG_FILE
    return Sam3Source(weights=weights, config=config if config.is_file() else None, tokenizer=tokenizer)


def read_sizes(source: Sam3Source) -> Sam3Sizes:
    """The sizes that config.json names.

    Raises:
        CheckpointError: it is no configuration of a SAM3.
    """
    if source.config is None:
        return PUBLISHED
    try:
        content = jsonio.read(source.config)
        if not isinstance(content, dict) or not str(content.get("model_type", "")).startswith("sam3"):
            raise _not_a_sam3(source.config, "its model_type is not sam3")
        return sizes_of(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _not_a_sam3(source.config, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except DataError as error:
        raise _not_a_sam3(source.config, error.why or error.what) from error


def read_weights(source: Sam3Source) -> Renamed:
    """All tensors under transformers' names.

    Raises:
        CheckpointError: damaged, or holding more than tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in source.weights:
        tensors |= read_foreign(path)
    return to_transformers(tensors)


def read_merges(source: Sam3Source, sizes: Sam3Sizes) -> Tensor:
    """The tokenizer's table of byte pairs, int32 (M, 2).

    Raises:
        CheckpointError: not readable, or no CLIP tokenizer of the model's vocabulary.
    """
    path = source.tokenizer
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        if path.name == "tokenizer.json":
            model = _mapping(_mapping(json.loads(path.read_text(encoding="utf-8"))).get("model"))
            vocabulary = {str(name): int(index) for name, index in _mapping(model.get("vocab")).items()}
            merges = [_pair(merge) for merge in model.get("merges") or ()]
            return merge_table(merges, vocabulary=vocabulary, size=sizes.num_merges)
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(_MAX_BYTES)
        else:
            data = path.read_bytes()
        lines = data.decode("utf-8").splitlines()
        # The first line is a comment; the original file lists more merges than the vocabulary takes.
        merges = [_pair(line) for line in lines[1 : sizes.num_merges + 1] if line]
        return merge_table(merges, vocabulary=None, size=sizes.num_merges)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise CheckpointError(
            "not SAM3's tokenizer",
            where=path,
            why=" ".join(str(error).split())[:200],
            fix="download the tokenizer's files again",
        ) from error


def pack_sizes(sizes: Sam3Sizes) -> Tensor:
    """Sizes as uint8 JSON text."""
    return torch.from_numpy(np.frombuffer(sizes.model_dump_json().encode(), np.uint8).copy())


def unpack_sizes(packed: Tensor) -> Sam3Sizes:
    """What `pack_sizes` packed.

    Raises:
        CheckpointError: it is something else.
    """
    try:
        return Sam3Sizes.model_validate_json(packed.to(torch.uint8).numpy().tobytes())
    except ValidationError as error:
        raise CheckpointError(
            "damaged sizes of a SAM3", why=str(error.errors()[0]["msg"]), fix="add the model again: medmoe models add"
        ) from error


def _weights_in(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    for pattern in _WEIGHTS:
        found = tuple(sorted(folder.glob(pattern)))
        if found:
            return found
    return ()


def _pair(merge: Any) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return str(first), str(second)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("it is no tokenizer of transformers")
    return value


def _not_a_sam3(path: Path, why: str) -> CheckpointError:
    return CheckpointError("not a SAM3", where=path, why=why, fix="name the folder with facebook/sam3's files")
