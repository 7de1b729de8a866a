"""Which requests a prediction makes when no prompts file says, and whether the model was built to answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.nn.segmenter import PromptKind
from medmoe_cli.core.workflows.predicting.requests import FromClassNames, FromMasks, FromNothing, RequestSource

_WITHOUT = "none: it finds all its classes by itself"


class Asking(Protocol):
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


def choose_requests(
    plan: Plan,
    *,
    kinds: frozenset[PromptKind],
    automatic: bool,
    mask_size: tuple[int, ...],
    options: Asking,
    promptable: tuple[str, ...] | None = None,
) -> RequestSource:
    """Where the requests come from when there is no prompts file.

    Args:
        plan: of the model that is asked.
        kinds: prompt kinds that it (and every other model asked with it) answers.
        automatic: it finds all classes at once.
        mask_size: of the mask prompts it takes.
        options: what the user asked for.
        promptable: classes that it finds by their names; None for all.

    Raises:
        ConfigError: nothing is prompted and the model cannot do without.
    """
    if options.prompts_from is not None:
        return FromMasks(
            options.prompts_from, plan, kind=options.prompt_type, clicks=options.clicks, mask_size=mask_size
        )
    if options.text:  # a model that knows no class by name is refused by its prompt kinds
        return FromClassNames(plan, options.text, promptable=promptable if "text" in kinds else None)
    if "none" in kinds:
        return FromNothing(value=value_for_nothing(plan, automatic=automatic))
    if "text" in kinds:
        return FromClassNames(plan, (), promptable=promptable)
    raise ConfigError(
        "this model needs prompts",
        why=f"it answers {', '.join(sorted(kinds))}",
        fix="add --prompts prompts.json, or --prompts-from MASKS",
    )


def value_for_nothing(plan: Plan, *, automatic: bool) -> int:
    """What an unprompted request asks for: all classes at once (0), or the one class there is."""
    return next(iter(plan.labels.values())) if plan.binary and not automatic else 0


def require_kinds(asked: frozenset[PromptKind], answered: frozenset[PromptKind]) -> None:
    """Refuse prompt kinds that a model was not built for.

    Raises:
        ConfigError: it was not.
    """
    missing = sorted(asked - answered)
    if missing:
        raise ConfigError(
            f"this model does not answer {', '.join(missing)} prompts",
            why=f"it answers {_WITHOUT if answered == {'none'} else ', '.join(sorted(answered))}",
            fix=(
                "leave the prompts out"
                if answered == {"none"}
                else "prompt it another way, or train with the kind switched on"
            ),
        )
