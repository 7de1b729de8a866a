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
from medmoe_cli.core.models.moe_sam.card import CARD as MOE_SAM
from medmoe_cli.core.models.sam_med3d_moe.card import CARD as SAM_MED3D_MOE
from medmoe_cli.core.models.segmote.card import CARD as SEGMOTE

if TYPE_CHECKING:
    from torch import Tensor

    from medmoe_cli.core.nn.segmenter import Segmenter


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


@dataclass(frozen=True, slots=True)
class _MoeSam:
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
class _Segmote:
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


_METHODS: Mapping[str, Method] = {"moe-sam": _MoeSam(), "sam-med3d-moe": _SamMed3dMoe(), "segmote": _Segmote()}


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
