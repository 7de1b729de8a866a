"""Time and memory of one MoE-SAM training step at 256 x 256, ViT-B, by the feature block's self-attention.

    python benchmarks/moe_sam_step.py [--batch 8] [--device cpu|cuda] [--attention fused all_layers] [--steps 2]

Random weights, adapters after attention and beside the MLP, four experts, eight classes. A step is forward, the
paper's loss, backward and AdamW. Each variant runs in a process of its own, so that its peak is its own: on the CPU the
process's largest resident memory, on a GPU what torch held at most. The first step is left out of the times.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 8
SIZE = 256


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run the steps in this process."""
    import torch

    from medmoe_cli.core.config.plan import ChannelPlan, Plan
    from medmoe_cli.core.engine.losses import Target, combine
    from medmoe_cli.core.engine.optim import apply_stage
    from medmoe_cli.core.engine.step import no_prompts
    from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
    from medmoe_cli.core.models.moe_sam.model import MoeSam

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    plan = Plan(
        dataset="random",
        method="moe-sam",
        preset="moe-sam-acdc",
        dims=2,
        slice_axis=2,
        input_size=SIZE,
        spacing_mm=None,
        channels=(ChannelPlan(name="CT", normalization="none"),),
        labels={f"organ {value}": value for value in range(1, CLASSES)},
        class_prompts={},
        binary=False,
        mirror_axes=(),
        batch_size=options.batch,
        num_experts=4,
        fingerprint_sha256="0" * 64,
        reasons={},
    )
    config = MoeSamConfig(
        weights="random",
        fusion_attention=options.attention[0],
        routing_group=options.routing_group,
        checkpoint_encoder=options.checkpoint,
    )
    model = MoeSam.build(config, plan).to(device)
    stage = model.stages()[0]
    optimizer = torch.optim.AdamW(apply_stage(model, stage).values(), lr=5e-4, weight_decay=0.1)
    images = torch.rand(options.batch, 1, SIZE, SIZE, device=device)
    labels = torch.randint(0, CLASSES, (options.batch, SIZE, SIZE), device=device)
    target = Target(masks=labels, valid=torch.ones_like(labels, dtype=torch.bool))
    prompts = no_prompts(options.batch, model.mask_size, device)
    times: list[tuple[float, float]] = []
    for _ in range(options.steps + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
            output = model.decode(model.encode(images), prompts)
        torch.stack(list(combine(output, target, stage.losses).values())).sum().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    timed = times[1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {
        "cpu_s": min(cpu for cpu, _ in timed),
        "wall_s": min(wall for _, wall in timed),
        "peak_gib": peak,
        "trainable": float(sum(one.numel() for one in model.parameters() if one.requires_grad)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attention", nargs="+", default=["fused", "all_layers"], choices=["fused", "all_layers"])
    parser.add_argument("--routing-group", default="location", choices=["location", "image"])
    parser.add_argument("--steps", type=int, default=2, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--checkpoint", action="store_true", help="recompute the encoder in the backward pass")
    parser.add_argument("--in-this-process", action="store_true", help="measure the first --attention here, as JSON")
    options = parser.parse_args()
    if options.in_this_process:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(options)))
        return
    print(f"ViT-B, {SIZE} x {SIZE}, batch {options.batch}, {options.device}, {'bf16' if options.bf16 else 'fp32'}")
    passed = [one for one in sys.argv[1:] if one not in {"--attention", "fused", "all_layers"}]
    for attention in options.attention:
        command = [sys.executable, __file__, *passed, "--attention", attention, "--in-this-process"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{attention:10s} did not finish (exit code {done.returncode})", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{attention:10s} step {found['wall_s']:7.2f} s ({found['cpu_s']:.2f} CPU s)  "
            f"peak {found['peak_gib']:.2f} GiB  trainable {found['trainable'] / 1e6:.2f} M",
            flush=True,
        )


if __name__ == "__main__":
    main()
