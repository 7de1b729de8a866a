"""A trained network made ready to answer, with what its plan and inference values say about mirrored views."""

from __future__ import annotations

from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import PredictConfig
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.engine.mirroring import Mirroring
from medmoe_cli.core.nn.segmenter import Segmenter


def ready(
    segmenter: Segmenter, *, plan: Plan, predict: PredictConfig, compute: Compute, mirroring: bool = True
) -> Inference:
    """The network on its device.

    Args:
        segmenter: is moved to the device.
        plan: says which axes may be mirrored and which classes change places then.
        predict: the model's inference values; `mirror` off leaves mirroring off.
        compute: device and precision.
        mirroring: False leaves mirroring off whatever the model says.
    """
    views = Mirroring(axes=plan.mirror_axes, swaps=plan.mirror_swaps) if mirroring and predict.mirror else None
    return Inference(
        segmenter,
        compute=compute,
        batch_size=predict.batch_size,
        queries_per_batch=predict.queries_per_batch,
        mirroring=views,
        presence=predict.presence,
    )
