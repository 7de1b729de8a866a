"""A segmenter that needs no training: it returns what the picture shows, so that everything around it can be tested.

The picture is the structure: intensities above one half are foreground. A box keeps what lies inside it, a point keeps
the connected region under it; with neither everything bright is kept.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

CARD = Card(
    name="oracle",
    title="Oracle",
    paper="",
    dims=2,
    prompts=("point", "box", "mask", "text", "none"),
    licence="MIT",
    summary="for tests",
)


class Oracle(Segmenter):
    """Answers with the bright region."""

    card = CARD

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.encoded: list[int] = []

    def encode(self, images: Tensor) -> Features:
        self.encoded.append(images.shape[0])
        return Features(maps={"image": images[:, :1]}, input_size=tuple(images.shape[2:]))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        bright = features.maps["image"]
        keep = torch.ones_like(bright, dtype=torch.bool)
        for row in range(prompts.num_queries):
            box = prompts.boxes[row]
            if not box.isnan().any():
                keep[row] = False
                x0, y0, x1, y1 = (round(edge) for edge in box.tolist())
                keep[row, 0, y0:y1, x0:x1] = True
            inside = prompts.point_labels[row] == 1
            if inside.any():
                x, y = (int(place) for place in prompts.points[row][inside][0].tolist())
                regions, _ = ndimage.label((bright[row, 0] > 0.5).numpy())
                keep[row, 0] &= torch.from_numpy(np.asarray((regions == regions[y, x]) & (regions > 0)))
        logits = torch.where(keep, self.scale * (bright - 0.5), -self.scale)
        return Output(logits=logits, low_res_logits=logits[..., ::4, ::4], scores=torch.ones(prompts.num_queries))

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(name="all", task="prompted", trainable=("scale",)),)

    @property
    def mask_size(self) -> tuple[int, ...]:
        return (16, 16)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup(name="all", total=1, trainable=1),)

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)


def oracle_inference() -> Inference:
    """The oracle, ready to answer on the CPU."""
    return Inference(Oracle(), compute=resolve_compute("cpu", "32"), batch_size=4, queries_per_batch=8)


def oracle_plan(*, input_size: int = 64, slice_axis: int = 2, labels: dict[str, int] | None = None) -> Plan:
    """A plan under which intensities in [0, 1] reach the oracle unchanged."""
    labels = labels or {"organ": 1}
    return Plan(
        dataset="phantom",
        method="oracle",
        preset="none",
        dims=2,
        slice_axis=slice_axis,
        input_size=input_size,
        spacing_mm=None,
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
