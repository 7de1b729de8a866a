"""The models of one prediction: one, or several whose probabilities are averaged.

The order in which models are named changes nothing: they are sorted by the sha256 of their weights, and the first of
them numbers the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from medmoe_cli.core.base.errors import CheckpointError, ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.postprocessing import Postprocessing
from medmoe_cli.core.data.prompts_file import PromptsFile
from medmoe_cli.core.data.volume_scan import prepare_scan
from medmoe_cli.core.engine.device import Compute
from medmoe_cli.core.engine.inference import Inference
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.nn.segmenter import PromptKind
from medmoe_cli.core.workflows.model_files.model_folder import LoadedModel, load_model
from medmoe_cli.core.workflows.predicting.answering import ready
from medmoe_cli.core.workflows.predicting.concepts import Asked, asked_for
from medmoe_cli.core.workflows.predicting.member_choice import MemberChoice, check_modality
from medmoe_cli.core.workflows.predicting.open_labels import with_labels
from medmoe_cli.core.workflows.predicting.panel import Member
from medmoe_cli.core.workflows.predicting.postprocess import common_rules
from medmoe_cli.core.workflows.predicting.request_choice import Asking, choose_requests, require_kinds
from medmoe_cli.core.workflows.predicting.requests import FromFile, Request, RequestSource
from medmoe_cli.core.workflows.predicting.scans import with_channels
from medmoe_cli.core.workflows.predicting.segmenting import member_of
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest
from medmoe_cli.core.workflows.predicting.volume_segmenting import VolumeMember

_TRAINED_ALIKE = "name models of the same classes and images, or predict with each by itself"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """Models that are asked the same.

    Attributes:
        models: sorted by sha256.
        inferences: the same, ready to answer.
        sources: what is asked of each.
        rules: post-processing that all of them have learned; none when it is switched off.
        asked: what they were made to understand besides their classes.
        choice: of the rules by which models of a collection are shown an image.
    """

    models: tuple[LoadedModel, ...]
    inferences: tuple[Inference, ...]
    sources: tuple[RequestSource, ...]
    rules: Postprocessing
    asked: Asked
    choice: MemberChoice = field(default_factory=MemberChoice)

    @property
    def plan(self) -> Plan:
        """The plan that numbers the classes."""
        return self.models[0].plan

    @property
    def read_channels(self) -> int | None:
        """To read a scan with; None for models of a collection, whose images differ in it."""
        return None if any(model.plan.members for model in self.models) else len(self.plan.channels)

    @property
    def channel_counts(self) -> frozenset[int]:
        """How many channels a scan may have."""
        return frozenset(number for model in self.models for number in model.plan.channel_counts)

    @property
    def threshold(self) -> float:
        """The mean of the models' thresholds."""
        return sum(model.predict.threshold for model in self.models) / len(self.models)

    @property
    def names(self) -> tuple[str, ...]:
        """Where the models' weights came from."""
        return tuple(str(model.source) for model in self.models)

    def identity(self) -> str:
        """Changes with the models, their rules, and what is averaged over; never with the models' order."""
        presence = [inference.presence for inference in self.inferences if inference.presence is not None]
        return value_sha256(
            {
                "models": [model.sha256 for model in self.models],
                "views": [list(inference.mirroring.axes) for inference in self.inferences],
                "rules": [[rule.label, rule.keep] for rule in self.rules.rules],
                "threshold": self.threshold,
                "precision": self.inferences[0].compute.precision,
                **({"presence": presence} if presence else {}),
                **({"modality": self.choice.wanted} if self.choice.wanted else {}),
            }
        )

    def members(self, case_id: str, image: Image) -> tuple[Member | VolumeMember, ...]:
        """Every model before a scan, with what is asked of it.

        Raises:
            DataError: the case has no prompts, or ones that do not fit the image.
        """
        found = []
        for model, inference, source in zip(self.models, self.inferences, self.sources, strict=True):
            plan = self.choice.plan_for(model.plan, case_id, image)
            shown = with_channels(image, len(plan.channels)) if model.plan.members else image
            prepared = prepare_scan(shown, plan)
            requests = source.requests_of(case_id, prepared)
            channels = None
            if model.plan.labels != self.plan.labels:
                numbers = {value: self.plan.labels[name] for name, value in model.plan.labels.items()}
                requests = tuple(_renumbered(one, numbers) for one in requests)
                channels = (0, *(model.plan.labels[name] for name in self.plan.class_names))
            found.append(member_of(prepared, requests, inference, channels))
        return tuple(found)


def _renumbered(request: Request | VolumeRequest, numbers: Mapping[int, int]) -> Request | VolumeRequest:
    return replace(request, value=numbers.get(request.value, 0))


class _Options(Asking, Protocol):
    """The part of the options that an ensemble is built by."""

    @property
    def mirroring(self) -> bool:
        """Average over mirrored views where a model says so."""

    @property
    def postprocessing(self) -> bool:
        """Apply the rules that the models have learned."""


def load_models(names: Sequence[str], *, workspace: Workspace, reporter: Reporter) -> tuple[LoadedModel, ...]:
    """The models of these names, sorted by sha256; without a name the newest finished run.

    Raises:
        ConfigError: a name of several folds, or the same model twice.
        CheckpointError: no such model, damaged, or models that cannot be averaged; every problem of the latter.
    """
    wanted: Sequence[str | None] = names or (None,)
    loaded = [load_model(name, workspace=workspace, reporter=reporter) for name in wanted]
    problems: list[MedMoEError] = []
    seen: dict[str, LoadedModel] = {}
    for model in loaded:
        if model.sha256 in seen:
            problems.append(
                ConfigError(
                    "the same model twice",
                    where="-m",
                    why=f"{model.source} and {seen[model.sha256].source} hold the same weights",
                    fix="name it once",
                )
            )
        seen[model.sha256] = model
    for model in loaded[1:]:
        problems += _differences(loaded[0], model)
    raise_all(problems)
    return tuple(sorted(loaded, key=lambda model: model.sha256))


def assemble(
    models: Sequence[LoadedModel],
    *,
    compute: Compute,
    options: _Options,
    prompts: PromptsFile | None,
    modality: str | None = None,
) -> Ensemble:
    """Make the models ready, and choose what is asked of them.

    Args:
        models: those to ask.
        compute: device and precision.
        options: what is asked.
        prompts: a prompts file; None without.
        modality: whose rules models of a collection follow; None to tell from each scan.

    Raises:
        ConfigError: prompts that none of the models answers, or none where they need some.
        DataError: masks to be prompted from that cannot be read.
        CheckpointError: prompts that only some of them answer.
    """
    check_modality(tuple(model.plan for model in models), modality)
    named = [with_labels(model, prompts=prompts, masks=options.prompts_from, texts=options.text) for model in models]
    asked = asked_for(named, texts=options.text, prompts=prompts)
    models, prompts = asked.models, asked.prompts
    inferences = tuple(
        ready(model.segmenter, plan=model.plan, predict=model.predict, compute=compute, mirroring=options.mirroring)
        for model in models
    )
    kinds = frozenset.intersection(*(model.segmenter.prompt_kinds for model in models))
    plans = [_with_words_of(models[0].plan, model.plan) for model in models]
    sources = tuple(
        FromFile(prompts, plan, synonyms=asked.synonyms)
        if prompts is not None
        else choose_requests(
            plan,
            kinds=kinds,
            automatic=inference.automatic,
            mask_size=inference.segmenter.mask_size,
            options=options,
            promptable=_promptable(models),
        )
        for plan, inference in zip(plans, inferences, strict=True)
    )
    _require_answers(models, sources[0].kinds, kinds)
    rules = common_rules([model.postprocessing if model.predict.postprocess else Postprocessing() for model in models])
    return Ensemble(
        models=asked.models,
        inferences=inferences,
        sources=sources,
        rules=rules if options.postprocessing else Postprocessing(),
        asked=asked,
        choice=MemberChoice(wanted=modality),
    )


def _promptable(models: Sequence[LoadedModel]) -> tuple[str, ...] | None:
    """The classes that all models find by their names; None for every class."""
    each = [names for names in (model.segmenter.promptable_classes() for model in models) if names is not None]
    return tuple(name for name in each[0] if all(name in names for names in each)) if each else None


def _with_words_of(first: Plan, plan: Plan) -> Plan:
    """The plan with the first model's words for the classes, in which prompts may speak of them."""
    return plan.model_copy(update={"class_prompts": first.class_prompts})


def _require_answers(
    models: Sequence[LoadedModel], asked: frozenset[PromptKind], common: frozenset[PromptKind]
) -> None:
    """Refuse prompts that not all models answer."""
    if asked <= common:
        return
    for model in models:
        if asked <= model.segmenter.prompt_kinds:
            break
    else:
        require_kinds(asked, common)
        return
    problems: list[MedMoEError] = [
        CheckpointError(
            "models cannot be averaged",
            where=other.source,
            why=f"prompts: {model.source} answers {_words(model.segmenter.prompt_kinds)}, "
            f"it answers {_words(other.segmenter.prompt_kinds)}",
            fix="prompt with what all of them answer, or predict with each by itself",
        )
        for other in models
        if not asked <= other.segmenter.prompt_kinds
    ]
    raise_all(problems)


def _words(kinds: frozenset[PromptKind]) -> str:
    return ", ".join(sorted(kinds))


_Key = Literal[
    "plan.labels", "plan.channels", "plan.slice_axis", "plan.dims", "plan.spacing_mm", "plan.input_size", "task"
]


def _differences(first: LoadedModel, other: LoadedModel) -> list[MedMoEError]:
    """Every key in which two models are too different to be averaged."""
    keys: dict[_Key, Callable[[LoadedModel], str]] = {
        "plan.labels": lambda model: ", ".join(sorted(model.plan.labels)),
        "plan.channels": lambda model: str(len(model.plan.channels)),
        "plan.slice_axis": lambda model: str(model.plan.slice_axis),
        "plan.dims": lambda model: str(model.plan.dims),
        # The windows of 3D models are averaged voxel by voxel; 2D models share the slices' own pixels instead.
        "plan.spacing_mm": lambda model: str(model.plan.spacing_mm),
        "plan.input_size": lambda model: str(model.plan.input_size if model.plan.dims == 3 else "any"),
        "task": lambda model: "all classes at once" if _is_automatic(model) else "one mask per prompt or class name",
    }
    return [
        CheckpointError(
            "models cannot be averaged",
            where=other.source,
            why=f"{key}: {read(first)} in {first.source}, {read(other)} in {other.source}",
            fix=_TRAINED_ALIKE,
        )
        for key, read in keys.items()
        if read(first) != read(other)
    ]


def _is_automatic(model: LoadedModel) -> bool:
    return all(stage.task == "automatic" for stage in model.segmenter.stages())
