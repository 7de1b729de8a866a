"""Our SAM image encoder against segment_anything's: CPU time and memory in one process, alternating.

    python benchmarks/sam_encoder.py [--sizes 256 1024] [--repeats 5] [--threads 2] [--train]

Both encoders hold the same random weights. Every repeat runs theirs, then ours; the ratio of a repeat is ours / theirs
in CPU seconds of this process, which a busy machine disturbs less than the clock. Printed: the fastest run of each, the
ratio of the fastest, the median of the repeats' ratios, and the largest difference of the outputs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from medmoe_cli.core.nn.sam2d import SamEncoder, sam_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds of one run."""

    cpu_s: float
    wall_s: float


def timed(run: Callable[[], object]) -> Timing:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Timing(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)


def encoders(name: str, image_size: int) -> tuple[SamEncoder, ImageEncoderViT]:
    size = sam_size(name)
    theirs = ImageEncoderViT(
        img_size=image_size,
        depth=size.depth,
        embed_dim=size.width,
        num_heads=size.num_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=size.global_blocks,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.02)
    ours = SamEncoder(size, image_size=image_size)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def forward(encoder: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        out = encoder(pixels)
    return out if isinstance(out, Tensor) else out.embedding


def train(encoder: nn.Module, pixels: Tensor) -> None:
    encoder.zero_grad(set_to_none=True)
    out = encoder(pixels)
    (out if isinstance(out, Tensor) else out.embedding).square().mean().backward()


def compare(name: str, image_size: int, *, repeats: int, mode: str) -> None:
    ours, theirs = encoders(name, image_size)
    pixels = torch.randn(1, 3, image_size, image_size)
    difference = float((forward(ours, pixels) - forward(theirs, pixels)).abs().max())
    step = forward if mode == "forward" else train
    step(ours, pixels)  # warm up both
    step(theirs, pixels)
    pairs = [(timed(lambda: step(theirs, pixels)), timed(lambda: step(ours, pixels))) for _ in range(repeats)]
    best_theirs, best_ours = min(a.cpu_s for a, _ in pairs), min(b.cpu_s for _, b in pairs)
    ratios = [b.cpu_s / a.cpu_s for a, b in pairs]
    walls = [b.wall_s / a.wall_s for a, b in pairs]
    print(
        f"{name} {image_size:5d} {mode:8s} CPU s: theirs {best_theirs:6.2f}  ours {best_ours:6.2f}  "
        f"ratio of fastest {best_ours / best_theirs:.3f}  median ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f}-{max(ratios):.3f})  wall {statistics.median(walls):.3f}  max difference {difference:.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="sam-vit-b")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", action="store_true", help="forward and backward instead of forward")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.repeats} repeats, alternating")
    for size in options.sizes:
        compare(options.encoder, size, repeats=options.repeats, mode="train" if options.train else "forward")


if __name__ == "__main__":
    main()
