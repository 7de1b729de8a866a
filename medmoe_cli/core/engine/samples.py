"""What a stage loads: training and validation samples, from images or from cached features."""

from __future__ import annotations

from lightning_fabric import Fabric

from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.engine import feature_cache
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.feature_cache import FeatureCache
from medmoe_cli.core.engine.job import Job
from medmoe_cli.core.engine.loader import Loading
from medmoe_cli.core.engine.prompting import training_chooser, validation_choosers
from medmoe_cli.core.engine.signals import StopFlag
from medmoe_cli.core.nn.segmenter import Stage

_FREE_SHARE = 0.8  # of the free disk that features may take


def training_samples(job: Job, stage: Stage, cache: FeatureCache | None) -> Loading:
    """Augmented images, or cached features as they are, with the stage's mix of first prompts."""
    return Loading(
        source=job.train,
        values=job.values,
        seed=job.config.seed,
        max_queries=job.config.queries_per_image,
        choosers=(training_chooser(stage, job.segmenter.mask_size, jitter=job.config.box_jitter),)
        if stage.task == "prompted"
        else (),
        cache=cache,
        augment=cache is None,
        absent_share=stage.absent_share,
    )


def validation_samples(job: Job, stage: Stage, cache: FeatureCache | None) -> Loading:
    """Every class of every image, once per prompt kind, nothing drawn at random.

    A stage that trains on absent classes is measured on them too, on all of each image's.
    """
    assert job.validation is not None
    choosers = validation_choosers(stage, job.segmenter.mask_size, kinds=job.segmenter.prompt_kinds, binary=job.binary)
    return Loading(
        source=job.validation,
        values=job.values,
        seed=job.config.seed,
        max_queries=None,
        choosers=choosers if stage.task == "prompted" else (),
        cache=cache,
        augment=False,
        all_absent=stage.absent_share > 0,
    )


def ready_cache(
    job: Job, stage: Stage, *, fabric: Fabric, compute: Compute, reporter: Reporter, stop: StopFlag
) -> FeatureCache | None:
    """The filled feature cache of a stage with a frozen encoder, or None where it trains or the disk is too small.

    Raises:
        InterruptedRun: a signal came; what is encoded is kept.
    """
    if job.features is None or not job.config.cache_features or not job.segmenter.encoder_is_frozen(stage):
        return None
    made_from = f"{job.preprocessing_key} {compute.precision}"
    cache = FeatureCache(job.features / feature_cache.encoder_key(job.segmenter, preprocessing_key=made_from))
    sources = [("training", job.train)]
    if job.validation is not None and len(job.validation):
        sources.append(("validation", job.validation))
    problem = ""
    if fabric.is_global_zero:
        missing = sum(len(cache.missing(source)) for _, source in sources)
        needed = missing * feature_cache.bytes_per_sample(job.segmenter, job.train, compute=compute)
        free = feature_cache.free_bytes(cache.folder)
        if needed > _FREE_SHARE * free:
            problem = f"features need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    problem = str(fabric.broadcast(problem))
    if problem:
        reporter.warn(f"{problem}: images are encoded at every step instead; free some space to be faster")
        return None
    reporter.info("the encoder is frozen: its features are cached and augmentation is off")
    done = True
    if fabric.is_global_zero:
        for what, source in sources:
            done = done and feature_cache.fill(
                cache,
                job.segmenter,
                source,
                compute=compute,
                batch_size=job.batch_size,
                reporter=reporter,
                stop=stop,
                what=what,
            )
    if not fabric.broadcast(done):
        stop.raise_interrupted(saved="the features encoded so far are kept", fix=job.resume_command)
    return cache
