"""From a method's name, a preset and `--set` to a validated configuration; the preset is chosen when none is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.presets import Preset, Resolved, load_preset, resolve
from medmoe_cli.core.models.registry import method as find_method


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenPreset:
    """A preset and why it was taken; '' when the user named it."""

    preset: Preset
    why: str


def choose_preset(workspace: Workspace, method: str, name: str | None) -> ChosenPreset:
    """The preset of that name or path; without a name the card's first whose backbone is in the workspace.

    Raises:
        ConfigError: unknown method or preset, or a preset of another method.
    """
    found = find_method(method)
    if name is not None:
        preset = load_preset(name)
        if preset.method != method:
            raise ConfigError(
                f"preset '{preset.name}' is for another method",
                where=preset.path,
                why=f"it says method: {preset.method}",
                fix=f"--method {preset.method}, or choose a preset of {method}: medmoe presets list",
            )
        return ChosenPreset(preset=preset, why="")
    missing = []
    from_scratch: Preset | None = None
    for candidate in found.card.presets:
        preset = load_preset(candidate)
        backbone = found.backbone_name(resolve(preset, found.config_class()).model)
        if backbone is None:
            from_scratch = from_scratch or preset
        elif (workspace.models / backbone).is_dir():
            return ChosenPreset(preset=preset, why=f"its backbone {backbone} is in {workspace.models}")
        elif backbone not in missing:
            missing.append(backbone)
    if from_scratch is None:
        raise ConfigError(
            f"no preset for method '{method}' can start",
            where=workspace.models,
            why=f"none of the backbones {', '.join(missing)} is there",
            fix=f"medmoe models add {missing[0]} CHECKPOINT" if missing else "medmoe presets list",
        )
    absent = f"no backbone ({', '.join(missing)}) is in {workspace.models}" if missing else "it needs no backbone"
    return ChosenPreset(preset=from_scratch, why=absent)


def configure(
    chosen: ChosenPreset, *, assignments: Sequence[str] = (), flags: Mapping[str, tuple[str, Any]] | None = None
) -> Resolved:
    """The preset's validated values under `--set` and flags.

    Raises:
        ConfigError: every unknown key and bad value, together.
    """
    section = find_method(chosen.preset.method).config_class()
    return resolve(chosen.preset, section, assignments=assignments, flags=flags)
