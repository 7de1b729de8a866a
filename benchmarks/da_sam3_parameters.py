"""Parameters of DA-SAM3 over the published SAM3, counted on a model without memory.

    python benchmarks/da_sam3_parameters.py [--experts 4] [--rank 8]

Printed: every part with what trains in each stage, and the experts of the three layers against as many full copies of
their feed-forward networks, with and without routers.
"""

from __future__ import annotations

import argparse

import torch

from medmoe_cli.core.config.plan import ChannelPlan, Plan
from medmoe_cli.core.engine.optim import apply_stage
from medmoe_cli.core.models.da_sam3.config import DaSam3Config
from medmoe_cli.core.models.da_sam3.model import DaSam3


def plan(num_experts: int) -> Plan:
    return Plan(
        dataset="none",
        method="da-sam3",
        preset="none",
        dims=2,
        slice_axis=2,
        input_size=256,
        spacing_mm=None,
        channels=(ChannelPlan(name="grey", normalization="none"),),
        labels={"organ": 1},
        class_prompts={},
        binary=True,
        mirror_axes=(),
        batch_size=1,
        num_experts=num_experts,
        fingerprint_sha256="0" * 64,
        reasons={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    given = parser.parse_args()
    config = DaSam3Config(backbone="sam3", weights="random", rank=given.rank)
    with torch.device("meta"):
        model = DaSam3.build(config, plan(given.experts))
    columns: dict[str, dict[str, int]] = {}
    total: dict[str, int] = {}
    for stage in model.stages():
        apply_stage(model, stage)
        for group in model.parameter_groups():
            total[group.name] = group.total
            columns.setdefault(group.name, {})[stage.name] = group.trainable
    stages = [stage.name for stage in model.stages()]
    print(f"{'part':28s} {'total':>12s} " + " ".join(f"{name:>12s}" for name in stages))
    for name, counted in columns.items():
        print(f"{name:28s} {total[name]:12,d} " + " ".join(f"{counted[stage]:12,d}" for stage in stages))
    sums = " ".join(f"{sum(counted[stage] for counted in columns.values()):12,d}" for stage in stages)
    print(f"{'all':28s} {sum(total.values()):12,d} {sums}")

    sizes = config.sizes_at(336)
    one_copy = 2 * sizes.width * sizes.mlp + sizes.width + sizes.mlp
    full = len(config.layers) * given.experts * one_copy
    for name, ours in (
        ("experts", total["experts"]),
        ("experts and routers", total["experts"] + total["routers"]),
    ):
        print(
            f"{name}: {ours:,d}; {given.experts} full copies in {len(config.layers)} layers: {full:,d}; "
            f"{100 * (1 - ours / full):.1f} % fewer"
        )


if __name__ == "__main__":
    main()
