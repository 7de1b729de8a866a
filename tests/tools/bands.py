"""An automatic segmenter that needs no training: a pixel's class is its intensity band, and may know its side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmoe_cli.core.config.card import Card
from medmoe_cli.core.engine.device import resolve_compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.engine.mirroring import Mirroring
from medmoe_cli.core.nn.moe.routing import Routing
from medmoe_cli.core.nn.segmenter import Features, Output, ParameterGroup, Prompts, Segmenter, Stage

CARD = Card(name="bands", title="Bands", paper="", dims=2, prompts=("none",), licence="MIT", summary="for tests")
LAYERS, EXPERTS, PLACES = 3, 2, 4


class Bands(Segmenter):
    """Class c of n is where the intensity is nearest to c / n.

    Args:
        num_classes: n, background not counted.
        sided: the last two classes are one band, left and right of the picture's middle.
        tilt: added to the background's logit, more to the right: an answer that differs for a mirrored picture.
    """

    card = CARD

    def __init__(self, num_classes: int = 2, *, sided: bool = False, tilt: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))
        self.num_classes, self.sided, self.tilt = num_classes, sided, tilt
        self.encoded: list[int] = []

    def encode(self, images: Tensor) -> Features:
        self.encoded.append(images.shape[0])
        return Features(maps={"image": images[:, :1]}, input_size=tuple(images.shape[2:]))

    def decode(self, features: Features, prompts: Prompts) -> Output:
        image = features.maps["image"]
        bands = self.num_classes - self.sided
        centres = torch.arange(bands + 1).view(1, -1, 1, 1) / bands
        logits = -self.scale * (image - centres).abs()
        across = torch.linspace(-1, 1, image.shape[-1]).view(1, 1, 1, -1)
        if self.sided:
            side = 5 * across.expand(len(image), 1, image.shape[-2], -1)
            logits = torch.cat([logits[:, :-1], logits[:, -1:] - side, logits[:, -1:] + side], dim=1)
        logits = torch.cat([logits[:, :1] + self.tilt * across, logits[:, 1:]], dim=1)
        return Output(logits=logits, routing={"feb": self._routing(len(image))})

    def _routing(self, images: int) -> Routing:
        """In each of 4 places of an image expert 0 takes layers 0 and 1, expert 1 layers 1 and 2."""
        groups = images * PLACES
        indices = torch.tensor([[0, 1], [1, 2]]).expand(groups, EXPERTS, 2)
        return Routing(
            gates=torch.full((groups, EXPERTS, 2), 0.5),
            indices=indices,
            logits=torch.zeros(groups, LAYERS, EXPERTS),
            probabilities=torch.full((groups, LAYERS, EXPERTS), 0.5),
            load=torch.full((EXPERTS,), 2.0 * groups),
        )

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(name="all", task="automatic", trainable=("scale",)),)

    @property
    def mask_size(self) -> tuple[int, ...]:
        return (16, 16)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (ParameterGroup(name="all", total=1, trainable=1),)

    def encoder_prefixes(self) -> tuple[str, ...]:
        return ("encoder.",)


def bands_inference(segmenter: Bands | None = None, mirroring: Mirroring | None = None) -> Inference:
    """Ready to answer on the CPU."""
    compute = resolve_compute("cpu", "32")
    return Inference(segmenter or Bands(), compute=compute, batch_size=4, queries_per_batch=8, mirroring=mirroring)
