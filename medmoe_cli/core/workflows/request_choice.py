"""Which requests a prediction makes when no prompts file says, and whether the model was built to answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.nn.segmenter import Segmenter
from medmoe_cli.core.workflows.requests import FromClassNames, FromMasks, FromNothing, RequestSource


class Asked(Protocol):
    """The part of the options that says how to prompt."""

    @property
    def prompts_from(self) -> Path | None:
        """Folder of masks."""

    @property
    def prompt_type(self) -> Literal["point", "box", "mask"]:
        """What is simulated from them."""

    @property
    def clicks(self) -> int:
        """How many."""

    @property
    def text(self) -> tuple[str, ...]:
        """Class names."""


def choose_requests(plan: Plan, segmenter: Segmenter, options: Asked) -> RequestSource:
    """Where the requests come from when there is no prompts file.

    Raises:
        ConfigError: nothing is prompted and the model cannot do without.
    """
    if options.prompts_from is not None:
        return FromMasks(
            options.prompts_from,
            plan,
            kind=options.prompt_type,
            clicks=options.clicks,
            mask_size=segmenter.mask_size,
        )
    if options.text:
        return FromClassNames(plan, options.text)
    kinds = segmenter.prompt_kinds
    if "none" in kinds:
        return FromNothing(value=next(iter(plan.labels.values())) if plan.binary else 0)
    if "text" in kinds:
        return FromClassNames(plan, ())
    raise ConfigError(
        "this model needs prompts",
        why=f"it answers {', '.join(sorted(kinds))}",
        fix="add --prompts prompts.json, or --prompts-from MASKS",
    )


def require_kinds(segmenter: Segmenter, source: RequestSource) -> None:
    """Refuse prompt kinds that the model was not built for.

    Raises:
        ConfigError: it was not.
    """
    missing = sorted(source.kinds - segmenter.prompt_kinds)
    if missing:
        raise ConfigError(
            f"this model does not answer {', '.join(missing)} prompts",
            why=f"it answers {', '.join(sorted(segmenter.prompt_kinds))}",
            fix="prompt it another way, or train with the kind switched on",
        )
