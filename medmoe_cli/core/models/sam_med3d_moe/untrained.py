"""The plan by which public SAM-Med3D weights answer prompts without any training of ours."""

from __future__ import annotations

from medmoe_cli.core.config.plan import ChannelPlan, Plan


def untrained_plan() -> Plan:
    """The public recipe: 1.5 mm, cubes of 128, deviations from the mean; what is asked for names the classes."""
    return Plan(
        dataset="",
        method="sam-med3d-moe",
        preset="",
        dims=3,
        slice_axis=2,
        input_size=128,
        spacing_mm=(1.5, 1.5, 1.5),
        channels=(ChannelPlan(name="image", normalization="zscore"),),
        labels={},
        class_prompts={},
        binary=False,
        mirror_axes=(),
        batch_size=1,
        num_experts=1,
        fingerprint_sha256="",
        reasons={},
    )
