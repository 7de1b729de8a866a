"""Our SAM-Med3D against the public code: equal outputs, and CPU (or GPU) time of the encoder in one process, in turns.

    git clone https://github.com/uni-medical/SAM-Med3D
    python benchmarks/sam3d_encoder.py --reference SAM-Med3D [--repeats 3] [--threads 1] [--train] [--device cuda]

The checkout is no part of this project: its `segment_anything` package is imported under another name, because ours
uses the package of that name for 2D. Both hold the same random weights and get the same 128 x 128 x 128 volume, and
afterwards the same clicks and mask prompt. Every repeat runs theirs, then ours. Printed: the largest difference of
every output, absolute and relative to the largest value, the fastest run of each, and the ratio ours / theirs (of the
fastest, and the median of the repeats'), in seconds of CPU time of this process, or of the clock with --device cuda.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from medmoe_cli.core.nn.sam3d import NEW_TENSORS, Sam3dParts, sam3d_size

SIDE = 128
CLICKS = ((30.0, 40.0, 50.0), (64.0, 64.0, 64.0), (100.0, 20.0, 7.0))  # voxel indices along D, H, W
LABELS = (1, 0, 1)


def reference_model(checkout: Path) -> nn.Module:
    """The public `vit_b_ori`, from PATH/segment_anything under a name of its own."""
    package = checkout / "segment_anything"
    if not (package / "build_sam3D.py").is_file():
        raise SystemExit(f"no segment_anything/build_sam3D.py in {checkout}: give a checkout of SAM-Med3D")
    spec = importlib.machinery.ModuleSpec("sam_med3d_reference", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    return importlib.import_module("sam_med3d_reference.build_sam3D").sam_model_registry3D["vit_b_ori"]()


def randomise(model: nn.Module) -> None:
    """Weights of usual scale; norms, biases and position tables away from where they start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.1 if "rel_pos" in name else 0.02)


def report(name: str, ours: Tensor, theirs: Tensor) -> None:
    largest = float((ours - theirs).abs().max())
    print(f"{name:14s} max difference {largest:.1e}, relative {largest / float(theirs.abs().max()):.1e}", flush=True)


@torch.no_grad()
def compare(ours: Sam3dParts, theirs: nn.Module, volume: Tensor) -> None:
    mine, other = ours.image_encoder(volume), theirs.image_encoder(volume)
    report("embedding", mine, other)
    device = volume.device
    points, labels = torch.tensor([CLICKS], device=device), torch.tensor([LABELS], device=device)
    mask = torch.randn(1, 1, 32, 32, 32, device=device)
    no_box = torch.full((1, 6), torch.nan, device=device)
    sparse, dense = ours.prompt_encoder(points.flip(-1) + 0.5, labels, no_box, mask)
    their_sparse, their_dense = theirs.prompt_encoder(points=(points, labels), boxes=None, masks=mask)
    report("prompt tokens", sparse.values[sparse.used], their_sparse[0])
    report("prompt map", dense, their_dense)
    positions, their_positions = ours.prompt_encoder.dense_positions(), theirs.prompt_encoder.get_dense_pe()
    report("position code", positions, their_positions)
    for multimask in (False, True):
        logits, scores = ours.mask_decoder(mine, positions, sparse, dense, multimask=multimask)
        their_logits, their_scores = theirs.mask_decoder(
            image_embeddings=other,
            image_pe=their_positions,
            sparse_prompt_embeddings=their_sparse,
            dense_prompt_embeddings=their_dense,
            multimask_output=multimask,
        )
        report(f"masks{' (three)' if multimask else ''}", logits, their_logits)
        report("predicted IoU", scores, their_scores)


def forward(encoder: nn.Module, volume: Tensor) -> None:
    with torch.no_grad():
        encoder(volume)


def train(encoder: nn.Module, volume: Tensor) -> None:
    encoder.zero_grad(set_to_none=True)
    encoder(volume).square().mean().backward()


def timed(run: Callable[[], object], *, cuda: bool) -> float:
    """CPU seconds of this process; seconds of the clock around a synchronised device."""
    if cuda:
        torch.cuda.synchronize()
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    run()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of uni-medical/SAM-Med3D")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train", action="store_true", help="forward and backward instead of forward")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cuda = options.device.startswith("cuda")

    theirs = reference_model(options.reference)
    randomise(theirs)
    ours = Sam3dParts(sam3d_size("sam-med3d")).eval()
    loaded = ours.load_state_dict(theirs.state_dict(), strict=False)
    if loaded.unexpected_keys or set(loaded.missing_keys) != set(NEW_TENSORS):
        raise SystemExit(f"other names than ours: {loaded}")
    theirs, ours = theirs.to(options.device), ours.to(options.device)
    volume = torch.randn(1, 1, SIDE, SIDE, SIDE).to(options.device)

    where = torch.cuda.get_device_name() if cuda else f"CPU, {options.threads} threads"
    print(f"torch {torch.__version__}, {where}, {options.repeats} repeats, in turns")
    compare(ours, theirs, volume)  # also warms both up
    step = train if options.train else forward
    if options.train:
        step(ours.image_encoder, volume)
        step(theirs.image_encoder, volume)
    pairs = [
        tuple(timed(lambda m=model: step(m.image_encoder, volume), cuda=cuda) for model in (theirs, ours))
        for _ in range(options.repeats)
    ]
    best_theirs, best_ours = (min(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for other, mine in pairs)
    print(
        f"encoder {'forward and backward' if options.train else 'forward'}, {'s' if cuda else 'CPU s'}: "
        f"theirs {best_theirs:.3f}, ours {best_ours:.3f}, ratio of fastest {best_ours / best_theirs:.3f}, "
        f"median ratio {ratio:.3f}; peak memory of the process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
