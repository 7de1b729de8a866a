"""Small 3D SAMs and their inputs."""

import torch
from torch import Tensor, nn

from medmoe_cli.core.nn.sam3d import Sam3dParts, Sam3dSize

SMALL = Sam3dSize(
    name="small",
    image_size=16,
    patch=4,
    width=24,
    depth=2,
    num_heads=2,
    global_blocks=(1,),
    window=3,
    neck_width=48,
    decoder_mlp=32,
)


def randomise(module: nn.Module, *, seed: int) -> None:
    """Weights at their usual scale; biases, norms and position tables well away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "pos" in name:
                parameter.copy_(0.3 * noise)
            elif any(part in name for part in ("_token", "_embed")):
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)


def small_parts(size: Sam3dSize = SMALL, *, seed: int = 0, checkpointing: bool = False) -> Sam3dParts:
    parts = Sam3dParts(size, checkpointing=checkpointing)
    randomise(parts, seed=seed)
    parts.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.copy_(
        torch.randn(3, size.neck_width // 3, generator=torch.Generator().manual_seed(seed))
    )
    return parts


def volumes(count: int = 2, *, side: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(count, 1, side, side, side, generator=torch.Generator().manual_seed(seed))


def no_boxes(queries: int) -> Tensor:
    return torch.full((queries, 6), torch.nan)


def clicks(*positions: tuple[float, ...], labels: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """One query's points (1, N, 3) and labels (1, N), all inside unless told."""
    points = torch.tensor([positions]).reshape(1, -1, 3)
    return points, torch.tensor([labels if labels is not None else (1,) * len(positions)]).reshape(1, -1)
