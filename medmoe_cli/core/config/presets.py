"""Presets: YAML files of values with their sources, resolved into typed sections with the origin of every value.

Precedence, weakest first: default, preset (`extends:` one level below it), `--set`, flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

import medmoe_cli
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean, nearest
from medmoe_cli.core.config.sections import AugmentConfig, PlanConfig, PredictConfig, Section, TrainConfig

HEAD_KEYS = ("method", "description", "extends")
SECTION_KEYS = ("plan", "model", "train", "augment", "predict")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A preset file, `extends:` already merged below it; values are not validated yet."""

    name: str
    path: Path
    method: str
    description: str
    values: Mapping[str, Any]
    origins: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A run's whole configuration. `origins` maps 'section.key' to default, preset NAME, --set or a flag."""

    method: str
    preset: str
    plan: PlanConfig
    model: Section
    train: TrainConfig
    augment: AugmentConfig
    predict: PredictConfig
    origins: Mapping[str, str]


def presets_folder() -> Path:
    """The packaged presets: inside the wheel, or at the top of a source checkout."""
    package = Path(medmoe_cli.__file__).parent
    packaged = package / "presets"
    return packaged if packaged.is_dir() else package.parent / "presets"


def preset_names() -> list[str]:
    """Names of the packaged presets."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_preset(name_or_path: str) -> Preset:
    """Read a preset by name or path.

    Raises:
        ConfigError: unknown name (with a suggestion), unreadable YAML, unknown sections; all problems together.
    """
    preset = _read(_locate(name_or_path))
    parent_name = preset.values.get("extends")
    if parent_name is None:
        return preset
    parent = _read(_locate(str(parent_name)))
    if "extends" in parent.values:
        raise ConfigError(
            f"preset '{parent.name}' extends another one itself",
            where=preset.path,
            why="presets extend one level only",
            fix=f"extend '{parent.values['extends']}' directly",
        )
    values: dict[str, Any] = {"method": preset.method, "description": preset.description}
    for section in SECTION_KEYS:
        merged = {**parent.values.get(section, {}), **preset.values.get(section, {})}
        if merged:
            values[section] = merged
    return Preset(
        name=preset.name,
        path=preset.path,
        method=preset.method,
        description=preset.description,
        values=values,
        origins={**parent.origins, **preset.origins},
    )


def resolve(
    preset: Preset,
    model_section: type[Section],
    *,
    assignments: Sequence[str] = (),
    flags: Mapping[str, tuple[str, Any]] | None = None,
) -> Resolved:
    """Merge and validate a run's configuration.

    Args:
        preset: from `load_preset`.
        model_section: the method's own typed section.
        assignments: `--set` values, each 'section.key=value' (value in YAML).
        flags: 'section.key' to (flag as typed, value); None values are ignored.

    Raises:
        ConfigError: every unknown key (with a suggestion) and every bad value, reported together.
    """
    types: dict[str, type[Section]] = {
        "plan": PlanConfig,
        "model": model_section,
        "train": TrainConfig,
        "augment": AugmentConfig,
        "predict": PredictConfig,
    }
    problems: list[MedMoEError] = []
    values = {section: dict(preset.values.get(section) or {}) for section in SECTION_KEYS}
    origins = dict(preset.origins)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if not equals or not dot:
            problems.append(
                ConfigError(
                    f"cannot read --set {assignment}",
                    why="it is not of the form section.key=value",
                    fix="for instance --set train.learning_rate=1e-4",
                )
            )
            continue
        if section not in types:
            problems.append(_unknown(f"--set {assignment}", section, SECTION_KEYS))
            continue
        values[section][name] = _yaml_value(text, problems, assignment)
        origins[f"{section}.{name}"] = "--set"
    for key, (flag, value) in (flags or {}).items():
        if value is None:
            continue
        section, _, name = key.partition(".")
        values[section][name] = value
        origins[key] = flag
    built: dict[str, Section] = {}
    for section, section_type in types.items():
        try:
            built[section] = section_type.model_validate(values[section])
        except ValidationError as error:
            problems.extend(_problems(error, section, section_type, origins, preset))
    raise_all(problems)
    for section, config in built.items():
        for name in type(config).model_fields:
            origins.setdefault(f"{section}.{name}", "default")
    plan, train, augment, predict = built["plan"], built["train"], built["augment"], built["predict"]
    assert isinstance(plan, PlanConfig)
    assert isinstance(train, TrainConfig)
    assert isinstance(augment, AugmentConfig)
    assert isinstance(predict, PredictConfig)
    return Resolved(
        method=preset.method,
        preset=preset.name,
        plan=plan,
        model=built["model"],
        train=train,
        augment=augment,
        predict=predict,
        origins=origins,
    )


def resolved_yaml(resolved: Resolved, *, header: Mapping[str, str]) -> str:
    """The text of `config.resolved.yaml`: every value with its origin as a comment."""
    lines = [f"# {key}: {value}" for key, value in header.items()]
    lines += [f"method: {resolved.method}", f"preset: {resolved.preset}"]
    for section in SECTION_KEYS:
        lines.append(f"{section}:")
        config: Section = getattr(resolved, section)
        for name, value in config.model_dump(mode="json").items():
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            lines.append(f"  {name}: {text}  # {resolved.origins[f'{section}.{name}']}")
    return "\n".join(lines) + "\n"


def _locate(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError("preset file not found", where=path, fix="medmoe presets list")
    packaged = presets_folder() / f"{name_or_path}.yaml"
    if packaged.is_file() and packaged.parent == presets_folder():
        return packaged
    raise ConfigError(
        f"unknown preset '{name_or_path}'", why=did_you_mean(name_or_path, preset_names()), fix="medmoe presets list"
    )


def _read(path: Path) -> Preset:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(
            "not valid YAML", where=path, why=" ".join(str(error).split()), fix="correct the file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("not a text file", where=path, why="it is not UTF-8", fix="correct the file") from error
    if not isinstance(values, dict):
        raise ConfigError(
            "not a preset", where=path, why="its top level is not a mapping", fix="medmoe presets show segmote-tiny"
        )
    problems: list[MedMoEError] = [
        _unknown(path, str(key), HEAD_KEYS + SECTION_KEYS) for key in values if key not in HEAD_KEYS + SECTION_KEYS
    ]
    problems += [
        ConfigError(f"missing key '{key}'", where=path, fix=f"add '{key}:' to the file")
        for key in ("method", "description")
        if not isinstance(values.get(key), str)
    ]
    problems += [
        ConfigError(f"section '{section}' is not a mapping", where=path, fix="medmoe presets show segmote-tiny")
        for section in SECTION_KEYS
        if values.get(section) is not None and not isinstance(values[section], dict)
    ]
    raise_all(problems)
    origins = {
        f"{section}.{key}": f"preset {path.stem}" for section in SECTION_KEYS for key in values.get(section) or {}
    }
    return Preset(
        name=path.stem,
        path=path,
        method=values["method"],
        description=" ".join(values["description"].split()),
        values={key: value for key, value in values.items() if value is not None},
        origins=origins,
    )


def _unknown(where: str | Path, key: str, choices: Sequence[str]) -> ConfigError:
    return ConfigError(f"unknown key '{key}'", where=where, why=did_you_mean(key, choices), fix="correct the key")


def _yaml_value(text: str, problems: list[MedMoEError], assignment: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        problems.append(ConfigError(f"cannot read --set {assignment}", why=" ".join(str(error).split())))
        return None


def _problems(
    error: ValidationError, section: str, section_type: type[Section], origins: Mapping[str, str], preset: Preset
) -> list[MedMoEError]:
    found: list[MedMoEError] = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        key = f"{section}.{name}"
        first = f"{section}.{item['loc'][0]}" if item["loc"] else section
        origin = origins.get(first, "the configuration")
        where = preset.path if origin.startswith("preset") else origin
        if item["type"] == "extra_forbidden":
            fields = list(section_type.model_fields)
            close = nearest(name, fields)
            found.append(
                ConfigError(
                    f"unknown key '{key}'",
                    where=where,
                    why=did_you_mean(name, fields),
                    fix=f"write {section}.{close}" if close else f"medmoe presets show {preset.name}",
                )
            )
        elif not item["loc"]:  # values that do not go together
            fix = f"change one of them with --set {section}.KEY=VALUE"
            found.append(ConfigError(f"bad values in '{section}'", where=where, why=_plain(item["msg"]), fix=fix))
        else:
            found.append(
                ConfigError(
                    f"bad value {item['input']!r} for '{key}'",
                    where=where,
                    why=_plain(item["msg"]),
                    fix=f"correct {key}",
                )
            )
    return found


def _plain(message: str) -> str:
    """Pydantic's message without the name of its exception."""
    return message.removeprefix("Value error, ")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, reads 1e-4 as a number, and knows only true and false as booleans.

    YAML 1.1's on, off, yes and no are words here, as in YAML 1.2: several keys take them.
    """


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _number(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    try:
        return float(text)
    except ValueError:
        return text


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|True|false|False)$"), list("tTfF"))
_EXPONENT = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_StrictLoader.add_implicit_resolver("!exponent", _EXPONENT, list("-+0123456789"))
_StrictLoader.add_constructor("!exponent", _number)
