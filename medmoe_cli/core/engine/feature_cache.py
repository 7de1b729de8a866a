"""Features of a frozen encoder on disk: each image is encoded once, for all epochs and all runs.

Keyed by the encoder's weights, the preprocessing and the sample. Stored as float16, which the decoder's inputs do not
notice (a value beyond its range keeps float32). Augmentation is off where features are cached.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medmoe_cli.core.base import atomic
from medmoe_cli.core.base.errors import CheckpointError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.imaging.sample import SampleSource
from medmoe_cli.core.nn.segmenter import Features, Segmenter
from medmoe_cli.core.nn.weights import load_tensors, save_tensors

_KEY_LENGTH = 16


def encoder_key(segmenter: Segmenter, *, preprocessing_key: str) -> str:
    """What cached features depend on: the encoder's tensors, bit for bit, and how its input was made."""
    digest = hashlib.sha256(preprocessing_key.encode())
    prefixes = segmenter.encoder_prefixes()
    for name, tensor in sorted(segmenter.state_dict().items()):
        if name.startswith(prefixes):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_KEY_LENGTH]


class FeatureCache:
    """The features of one encoder for the samples of any source; picklable, so loader workers read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The file of a sample."""
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, key: str) -> dict[str, Tensor]:
        """One sample's maps, without the image axis.

        Raises:
            CheckpointError: the file is damaged; the message says how to have it made again.
        """
        path = self.path(key)
        try:
            return load_tensors(path)
        except (CheckpointError, DataError, OSError) as error:
            raise CheckpointError(
                "damaged feature cache", where=path, why=str(error), fix=f"rm -r {self.folder}, then resume"
            ) from error

    def write(self, key: str, maps: Mapping[str, Tensor]) -> None:
        """Store one sample's maps."""
        small: dict[str, Tensor] = {}
        for name, tensor in maps.items():
            half = tensor.detach().half()
            small[name] = (half if bool(half.isfinite().all()) else tensor.detach().float()).cpu().contiguous()
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, small, {"sample": hashlib.sha256(key.encode()).hexdigest()})

    def missing(self, source: SampleSource) -> list[int]:
        """Indices of the samples that are not cached, of copies the first."""
        first = {source.key(index): index for index in reversed(range(len(source)))}
        return sorted(index for key, index in first.items() if not self.path(key).is_file())

    def sweep(self) -> None:
        """Remove what killed writers left."""
        if self.folder.is_dir():
            for folder in self.folder.iterdir():
                if folder.is_dir():
                    atomic.sweep(folder)


@torch.no_grad()
def fill(
    cache: FeatureCache,
    segmenter: Segmenter,
    source: SampleSource,
    *,
    compute: Compute,
    batch_size: int,
    reporter: Reporter,
    stop: StopFlag,
    what: str,
) -> bool:
    """Encode what is not cached yet; False when a signal came before the end (what is done is kept).

    Raises:
        DataError: an image with values that are not finite, named.
        ResourceError: the disk is full, with the bytes that the cache needs.
    """
    cache.sweep()
    todo = cache.missing(source)
    total = len({source.key(index) for index in range(len(source))})
    if len(todo) < total:
        reporter.info(f"features: {total - len(todo)} of {total} {what} samples are cached already")
    if not todo:
        return True
    segmenter.eval()
    if compute.device.type == "cpu":
        batch_size = 1  # bit for bit the same whatever else is encoded, so that an interruption changes nothing
    reporter.start(f"encoding {what} samples once", None)
    for start in range(0, len(todo), batch_size):
        if stop.wanted:
            reporter.finish()
            return False
        indices = todo[start : start + batch_size]
        for index, maps in zip(indices, _encode(segmenter, source, indices, compute), strict=True):
            cache.write(source.key(index), maps)
        reporter.update(f"{start + len(indices)}/{len(todo)} samples")
    reporter.finish()
    return True


def bytes_per_sample(segmenter: Segmenter, source: SampleSource, *, compute: Compute) -> int:
    """What one sample's features take, measured on the first."""
    with torch.no_grad():
        segmenter.eval()
        (maps,) = _encode(segmenter, source, [0], compute)
    return 2 * sum(tensor.numel() for tensor in maps.values())


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _encode(
    segmenter: Segmenter, source: SampleSource, indices: Sequence[int], compute: Compute
) -> list[dict[str, Tensor]]:
    samples = [source.load(index, seed=None) for index in indices]
    for index, sample in zip(indices, samples, strict=True):
        if not np.isfinite(sample.image).all():
            raise DataError(
                "image is not finite", where=source.key(index), why="it has NaN or Inf values", fix="medmoe check DATA"
            )
    images = torch.from_numpy(np.stack([sample.image for sample in samples])).to(compute.device)
    with compute.autocast():
        features: Features = segmenter.encode(images)
    return [{name: tensor[row] for name, tensor in features.maps.items()} for row in range(len(indices))]
