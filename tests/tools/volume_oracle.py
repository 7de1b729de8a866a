"""A 3D segmenter that needs no training: it answers with what the volume shows, so that everything around it is tested.

Intensities above one half are structures. A box keeps what lies inside it, a mask prompt what it covers, a click the
connected region under it (or, with a `reach`, only what is that near to any click inside: an answer that gets better
with every click); a class name keeps what is about as bright as that class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

SIDE = 32
CARD = Card(
    name="oracle-3d",
    title="Oracle 3D",
    paper="",
    dims=3,
    prompts=("point", "box", "mask", "text", "none"),
    licence="MIT",
    summary="for tests",
)


class VolumeOracle(Segmenter):
    """Answers with the bright region.

    Args:
        num_classes: class c (from 0) has intensity (c + 1) / num_classes.
        reach: voxels around a click that are answered; None for its whole region.
        side: of its windows.

    Attributes:
        encoded: images of each call of `encode`.
        asked: the prompts of each call of `decode`.
    """

    card = CARD

    def __init__(self, *, num_classes: int = 1, reach: float | None = None, side: int = SIDE) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))
        self._classes, self._reach, self._side = num_classes, reach, side
        self.encoded: list[int] = []
        self.asked: list[Prompts] = []

    def encode(self, images: Tensor) -> Features:
        assert images.shape[1:] == (1, *(self._side,) * 3)
        self.encoded.append(images.shape[0])
        return Features(maps={"image": images}, input_size=(self._side,) * 3)

    def decode(self, features: Features, prompts: Prompts) -> Output:
        self.asked.append(prompts)
        image = features.maps["image"]
        logits = self.scale * (image - 0.5)
        for row in range(prompts.num_queries):
            logits[row, 0] = torch.where(self._kept(image[row, 0], prompts, row), logits[row, 0], -self.scale)
            number = int(prompts.class_index[row])
            if number >= 0:
                near = (image[row, 0] * self._classes - (number + 1)).abs()
                logits[row, 0] = self.scale * (0.5 - near)
        small = F.avg_pool3d(logits, 2)
        return Output(logits=logits, low_res_logits=small, scores=torch.ones(prompts.num_queries))

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(name="all", task="prompted", trainable=("scale",), correction_rounds=2),)

    @property
    def mask_size(self) -> tuple[int, ...]:
        return (self._side // 2,) * 3

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup(name="all", total=1, trainable=1),)

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)

    def _kept(self, image: Tensor, prompts: Prompts, row: int) -> Tensor:
        keep = torch.ones_like(image, dtype=torch.bool)
        centre = torch.arange(self._side) + 0.5
        z, y, x = centre[:, None, None], centre[None, :, None], centre[None, None, :]
        box = prompts.boxes[row]
        if not box.isnan().any():
            x0, y0, z0, x1, y1, z1 = box.tolist()
            keep &= (x > x0) & (x < x1) & (y > y0) & (y < y1) & (z > z0) & (z < z1)
        inside = prompts.points[row][prompts.point_labels[row] == 1]
        if len(inside) and self._reach is not None:
            near = [((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) < self._reach**2 for px, py, pz in inside.tolist()]
            keep &= torch.stack(near).any(0)
        elif len(inside):
            regions, _ = ndimage.label((image > 0.5).numpy())
            under = {int(regions[int(pz), int(py), int(px)]) for px, py, pz in inside.tolist()} - {0}
            keep &= torch.from_numpy(np.isin(regions, sorted(under)))
        if prompts.masks is not None and bool(prompts.has_mask[row]) and not len(inside):
            keep &= F.interpolate(prompts.masks[row][None], (self._side,) * 3, mode="nearest")[0, 0] > 0
        return keep


def volume_inference(oracle: Segmenter | None = None) -> Inference:
    """The oracle, ready to answer on the CPU."""
    return Inference(oracle or VolumeOracle(), compute=resolve_compute("cpu", "32"), batch_size=4, queries_per_batch=8)


def oracle_volume_plan(
    labels: Mapping[str, int] | None = None, *, spacing: float = 1.5, slice_axis: int = 2, side: int = SIDE
) -> Plan:
    """A plan under which intensities reach the oracle unchanged, resampled at most."""
    labels = dict(labels or {"organ": 1})
    return Plan(
        dataset="phantom",
        method="oracle-3d",
        preset="none",
        dims=3,
        slice_axis=slice_axis,
        input_size=side,
        spacing_mm=(spacing,) * 3,
        channels=(ChannelPlan(name="scan", normalization="none"),),
        labels=labels,
        class_prompts={name: name for name in labels},
        binary=len(labels) == 1,
        mirror_axes=(),
        batch_size=2,
        num_experts=4,
        fingerprint_sha256="0",
        reasons={},
    )
