"""Where an architecture over SAM starts: the encoder's size, and the tensors of a SAM or of a model trained before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from medmoe_cli.core.nn.patches import require_patches
from medmoe_cli.core.nn.sam2d.resize import resize_table
from medmoe_cli.core.nn.sam2d.sizes import SamSize, sam_size
from medmoe_cli.core.nn.weights import KeyReport, load_into, refuse_missing

SAM_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


class SamChoice(Protocol):
    """The keys of a `model` section that size the encoder; those after `backbone` count for tiny alone."""

    @property
    def backbone(self) -> str:
        """A SAM by name, or tiny."""

    @property
    def width(self) -> int:
        """Of the encoder."""

    @property
    def depth(self) -> int:
        """Number of its blocks."""

    @property
    def heads(self) -> int:
        """Of its attention."""

    @property
    def patch_size(self) -> int:
        """Pixels."""

    @property
    def decoder_width(self) -> int:
        """Of embedding and mask decoder."""


def chosen_size(config: SamChoice, *, image_size: int) -> SamSize:
    """The size of the image encoder; tiny is sized by the config and attends globally in every block.

    Raises:
        ConfigError: the images are no multiple of the patch.
    """
    size = (
        sam_size(config.backbone)
        if config.backbone != "tiny"
        else SamSize(
            name="tiny",
            width=config.width,
            depth=config.depth,
            num_heads=config.heads,
            global_blocks=tuple(range(config.depth)),
            patch=config.patch_size,
            neck_width=config.decoder_width,
        )
    )
    require_patches(image_size, size.patch)
    return size


def load_start(
    model: nn.Module, tensors: Mapping[str, Tensor], *, name: str, is_own: Callable[[str], bool] = lambda _: False
) -> KeyReport:
    """Copy a SAM's tensors into the parts that carry its names; position tables are resized to the input size.

    Of a model that was trained before the parts beyond SAM come too, but for those of another shape, such as the
    embeddings of other classes.

    Args:
        model: with SAM's parts under SAM's names.
        tensors: by the model's names; what belongs to none of its parts is left alone.
        name: of what they are of, for the error.
        is_own: whether a name within SAM's parts is the model's own, which a SAM lacks.

    Returns:
        What was copied; `missing` holds what begins anew.

    Raises:
        CheckpointError: a tensor of SAM's parts is missing or has another shape; the first ones are named.
    """
    own = model.state_dict()
    parts = {
        key: tensor
        for key, tensor in tensors.items()
        if key.startswith(SAM_PARTS) or (key in own and own[key].shape == tensor.shape)
    }
    report = load_into(model, parts, resize=resize_table, where=f"backbone '{name}'")
    missing = [key for key in report.missing if key.startswith(SAM_PARTS) and not is_own(key)]
    refuse_missing(missing, name=name)
    return report
