"""What the values in a folder's label files mean: codes, 0/255 masks, or masks with soft edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmoe_cli.core.base.errors import ConfigError, DataError, MedMoEError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.data.converters.source import ConvertOptions, renumber
from medmoe_cli.core.data.filenames import some
from medmoe_cli.core.data.workers import each, worker_count
from medmoe_cli.core.imaging.read import read_labels

SOFT_THRESHOLD = 127
_SOFT_VALUES = 16
_SOFT_ENDS = 8
_SOFT_SHARE = 0.8
_MAX_UNNAMED = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelValues:
    """The values of many label files: how many voxels, and how many files have each."""

    voxels: Mapping[int, int]
    files: Mapping[int, int]

    @property
    def foreground(self) -> list[int]:
        """Values above 0, in order."""
        return sorted(value for value in self.voxels if value > 0)

    @property
    def soft(self) -> bool:
        """True for 8-bit masks with soft edges: many grey levels, nearly all voxels close to 0 or to 255."""
        values = np.array(list(self.voxels), dtype=np.int64)
        counts = np.array(list(self.voxels.values()), dtype=np.int64)
        if len(values) < _SOFT_VALUES or values.max() > 255:
            return False
        low, high = counts[values <= _SOFT_ENDS].sum(), counts[values >= 255 - _SOFT_ENDS].sum()
        return bool(low > 0 and high > 0 and low + high >= _SOFT_SHARE * counts.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """How label files become classes."""

    labels: dict[str, int]
    value_map: dict[int, int]
    threshold: int | None = None
    notes: tuple[str, ...] = field(default=())


def survey_values(paths: Sequence[Path], *, workers: int | None, reporter: Reporter) -> LabelValues:
    """Count the values of all label files; damaged ones are left for the conversion to report.

    Raises:
        DataError: none of them can be read; the first one's reason.
    """
    voxels: Counter[int] = Counter()
    files: Counter[int] = Counter()
    reporter.start("look at labels", len(paths))
    for path, counts in zip(
        paths, each(_count, paths, workers=worker_count(workers, len(paths)), name=str), strict=True
    ):
        reporter.update(path.name)
        voxels.update(counts)
        files.update(counts.keys())
    reporter.finish()
    if not voxels and paths:
        read_labels(paths[0])
    return LabelValues(voxels=voxels, files=files)


def classes_of(found: LabelValues, options: ConvertOptions) -> Classes:
    """Decide what the values mean.

    Raises:
        ConfigError: the options contradict the values.
        DataError: the values are no label codes.
    """
    names = options.label_names
    if options.threshold is not None or (not options.label_map and found.soft):
        threshold = SOFT_THRESHOLD if options.threshold is None else options.threshold
        if len(names) > 1:
            raise ConfigError(
                f"{len(names)} label names for binary masks",
                why=f"masks above {threshold} are one class",
                fix="give one name, or a --label-map",
            )
        why = f"masks with soft edges ({len(found.voxels)} grey levels)" if options.threshold is None else "masks"
        note = f"{why}: foreground is above {threshold}"
        return Classes(labels={_name(names, 1, 1): 1}, value_map={1: 1}, threshold=threshold, notes=(note,))
    if not found.foreground:
        raise DataError("no label has foreground", why="all values are 0", fix="name the folder of the masks: --labels")
    if options.label_map:
        return _by_map(found, options)
    return _by_values(found, names)


def _by_map(found: LabelValues, options: ConvertOptions) -> Classes:
    targets = sorted({target for target in options.label_map.values() if target > 0})
    count = len(targets)
    if targets != list(range(1, count + 1)) or not targets:
        raise ConfigError(
            "bad --label-map", why=f"its targets are {targets}, 1 to {max(count, 1)} expected", fix="renumber"
        )
    if options.label_names and len(options.label_names) != count:
        raise ConfigError(
            f"{len(options.label_names)} label names for {count} classes", fix="name each target of --label-map once"
        )
    unknown = [value for value in found.foreground if value not in options.label_map]
    if unknown:
        seen = some((f"{value} (in {found.files[value]} files)" for value in unknown), 8)
        raise DataError(
            "label values that --label-map does not name", why=seen, fix=f"add them; {unknown[0]}:0 makes background"
        )
    labels = {_name(options.label_names, target, count): target for target in targets}
    return Classes(labels=labels, value_map=dict(options.label_map))


def _by_values(found: LabelValues, names: tuple[str, ...]) -> Classes:
    values = found.foreground
    if len(values) > _MAX_UNNAMED and not names:
        raise DataError(
            "files that look like images, not label maps",
            why=f"{len(values)} different values without names",
            fix="check --labels; for masks in grey levels give --threshold, for so many classes --label-names",
        )
    if names:
        if set(values) <= set(range(1, len(names) + 1)):
            sources = {name: value for value, name in enumerate(names, start=1)}
        elif len(values) == len(names):
            sources = dict(zip(names, values, strict=True))
        else:
            raise ConfigError(
                f"{len(names)} label names for {len(values)} label values",
                why=f"the values are {some(map(str, values), 12)}",
                fix="name every class in the order of the values, or give --label-map",
            )
    else:
        sources = {_name((), number, len(values)): value for number, value in enumerate(values, start=1)}
    labels, value_map = renumber(sources)
    changed = [f"{source} is now {target}" for source, target in value_map.items() if source != target]
    notes = [f"label values renumbered: {some(changed, 6)}"] if changed else []
    if not names:
        notes.append("classes have no names: give them with --label-names")
    return Classes(labels=labels, value_map=value_map, notes=tuple(notes))


def _name(names: tuple[str, ...], number: int, count: int) -> str:
    if names:
        return names[number - 1]
    return "foreground" if count == 1 else f"class_{number}"


def _count(path: Path) -> dict[int, int]:
    try:
        values, counts = np.unique(read_labels(path).data, return_counts=True)
    except MedMoEError:
        return {}
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
