"""Images that are cut into patches."""

from __future__ import annotations

from medmoe_cli.core.base.errors import ConfigError


def require_patches(image_size: int, patch: int) -> None:
    """Refuse sides that are no multiple of the patch.

    Raises:
        ConfigError: they are not.
    """
    if image_size % patch:
        raise ConfigError(
            f"input size {image_size} is not a multiple of the patch {patch}",
            where="plan.input_size",
            fix=f"set plan.input_size to {image_size // patch * patch or patch}",
        )
