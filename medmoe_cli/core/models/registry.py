"""The methods there are: a literal table of names, read without torch.

A method adds one line to `_METHODS`; its config and its network are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.card import Card
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.config.sections import Section
from medmoe_cli.core.models.da_sam3.card import CARD as DA_SAM3
from medmoe_cli.core.models.moe_sam.card import CARD as MOE_SAM
from medmoe_cli.core.models.sam_med3d_moe.card import CARD as SAM_MED3D_MOE
from medmoe_cli.core.models.segmote.card import CARD as SEGMOTE

if TYPE_CHECKING:
    from torch import Tensor

    from medmoe_cli.core.nn.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Untrained:
    """How pretrained weights answer as they are: the `model` section, and a plan whose labels are open."""

    config: Section
    plan: Plan


class Method(Protocol):
    """What the registry knows of a method."""

    @property
    def card(self) -> Card:
        """Facts, free of torch."""

    def config_class(self) -> type[Section]:
        """The typed `model` section of the method's presets; free of torch."""

    def backbone_name(self, config: Section) -> str | None:
        """Name of the added model whose weights `build` wants; None when it starts at random."""

    def build(
        self, config: Section, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None, restore: bool = False
    ) -> Segmenter:
        """The network, with the backbone's weights when given.

        Args:
            config: a `config_class()`.
            plan: the dataset's plan.
            backbone: tensors by the names of the backbone's own file.
            restore: True when trained weights are loaded right after: files that the config names are not read.
        """

    def part_files(self, config: Section) -> Mapping[str, str]:
        """Files of a shared model besides model.safetensors, each with the prefix that its tensors' names lack."""

    def explain(self, config: Section, plan: Plan) -> Mapping[str, str]:
        """Lines for `plan --explain` about what the method decides itself: the reason by what it is about."""

    def untrained(self, architecture: str, *, name: str) -> Untrained | None:
        """What makes an added backbone answer prompts without training; None where it cannot.

        Args:
            architecture: a name of `BACKBONES`.
            name: that it was added by.
        """


class _Whole:
    """A method whose models are one file, and whose backbones answer nothing before they are trained."""

    __slots__ = ()

    def part_files(self, config: Section) -> Mapping[str, str]:
        return {}

    def explain(self, config: Section, plan: Plan) -> Mapping[str, str]:
        return {}

    def untrained(self, architecture: str, *, name: str) -> Untrained | None:
        return None


@dataclass(frozen=True, slots=True)
class _DaSam3(_Whole):
    card: Card = DA_SAM3

    def config_class(self) -> type[Section]:
        from medmoe_cli.core.models.da_sam3.config import DaSam3Config

        return DaSam3Config

    def backbone_name(self, config: Section) -> str | None:
        from medmoe_cli.core.models.da_sam3.config import DaSam3Config

        return cast(DaSam3Config, config).backbone_weights

    def build(
        self, config: Section, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None, restore: bool = False
    ) -> Segmenter:
        from medmoe_cli.core.models.da_sam3.config import DaSam3Config
        from medmoe_cli.core.models.da_sam3.model import DaSam3

        return DaSam3.build(cast(DaSam3Config, config), plan, backbone=backbone, restore=restore)

    def explain(self, config: Section, plan: Plan) -> Mapping[str, str]:
        from medmoe_cli.core.models.da_sam3.config import DaSam3Config
        from medmoe_cli.core.models.da_sam3.explain import reasons

        return reasons(cast(DaSam3Config, config), plan)


@dataclass(frozen=True, slots=True)
class _MoeSam(_Whole):
    card: Card = MOE_SAM

    def config_class(self) -> type[Section]:
        from medmoe_cli.core.models.moe_sam.config import MoeSamConfig

        return MoeSamConfig

    def backbone_name(self, config: Section) -> str | None:
        from medmoe_cli.core.models.moe_sam.config import MoeSamConfig

        return cast(MoeSamConfig, config).backbone_weights

    def build(
        self, config: Section, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None, restore: bool = False
    ) -> Segmenter:
        from medmoe_cli.core.models.moe_sam.config import MoeSamConfig
        from medmoe_cli.core.models.moe_sam.model import MoeSam

        return MoeSam.build(cast(MoeSamConfig, config), plan, backbone=backbone, restore=restore)


@dataclass(frozen=True, slots=True)
class _Segmote(_Whole):
    card: Card = SEGMOTE

    def config_class(self) -> type[Section]:
        from medmoe_cli.core.models.segmote.config import SegmoteConfig

        return SegmoteConfig

    def backbone_name(self, config: Section) -> str | None:
        from medmoe_cli.core.models.segmote.config import SegmoteConfig

        return cast(SegmoteConfig, config).backbone_weights

    def build(
        self, config: Section, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None, restore: bool = False
    ) -> Segmenter:
        from medmoe_cli.core.models.segmote.config import SegmoteConfig
        from medmoe_cli.core.models.segmote.model import Segmote

        return Segmote.build(cast(SegmoteConfig, config), plan, backbone=backbone, restore=restore)


@dataclass(frozen=True, slots=True)
class _SamMed3dMoe:
    card: Card = SAM_MED3D_MOE

    def config_class(self) -> type[Section]:
        from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig

        return SamMed3dMoeConfig

    def backbone_name(self, config: Section) -> str | None:
        from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig

        return cast(SamMed3dMoeConfig, config).backbone_weights

    def build(
        self, config: Section, plan: Plan, *, backbone: Mapping[str, Tensor] | None = None, restore: bool = False
    ) -> Segmenter:
        from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
        from medmoe_cli.core.models.sam_med3d_moe.model import SamMed3dMoe

        return SamMed3dMoe.build(cast(SamMed3dMoeConfig, config), plan, backbone=backbone, restore=restore)

    def part_files(self, config: Section) -> Mapping[str, str]:
        from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig

        experts = cast(SamMed3dMoeConfig, config).experts
        return {f"experts/{expert.name}.safetensors": f"experts.{index}." for index, expert in enumerate(experts)}

    def explain(self, config: Section, plan: Plan) -> Mapping[str, str]:
        return {}

    def untrained(self, architecture: str, *, name: str) -> Untrained | None:
        from medmoe_cli.core.models.sam_med3d_moe.config import SamMed3dMoeConfig
        from medmoe_cli.core.models.sam_med3d_moe.untrained import untrained_plan

        if architecture != "sam-med3d":
            return None
        return Untrained(config=SamMed3dMoeConfig(backbone="sam-med3d", weights=name), plan=untrained_plan())


_METHODS: Mapping[str, Method] = {
    "da-sam3": _DaSam3(),
    "moe-sam": _MoeSam(),
    "sam-med3d-moe": _SamMed3dMoe(),
    "segmote": _Segmote(),
}


def method_names() -> tuple[str, ...]:
    """Names of all methods, as typed after `--method`."""
    return tuple(_METHODS)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    if name not in _METHODS:
        raise ConfigError(f"unknown method '{name}'", why=did_you_mean(name, _METHODS), fix="choose a method")
    return _METHODS[name]


def card(name: str) -> Card:
    """The method's card; raises ConfigError as `method` does."""
    return method(name).card
