"""The prompts file: points, boxes and texts for `predict --prompts`, per case.

    {"schema": 1, "space": "voxel", "axes": "xyz", "cases": {
      "case_001": [{"label": "liver", "points": [[120, 88, 40, 1], [60, 91, 40, 0]],
                    "box": [100, 70, 30, 180, 140, 55], "text": "liver"}]}}

Space 'voxel': indices into the file's own grid, x first, counted from 0; a point names a voxel's centre and a box its
first and last voxel, both included. Space 'mm': millimetres in RAS+, NIfTI's world (x to the patient's right, y to
anterior, z to superior; negate x and y of DICOM or 3D Slicer LPS values); a box is two opposite corners. A point ends
with 1 (inside the structure) or 0 (outside). Pictures may leave z out: [x, y, 1] and [x0, y0, x1, y1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import DataError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean, nearest
from medmoe_cli.core.imaging.geometry import Geometry

_Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumePrompt:
    """One structure's prompts in one image.

    Coordinates are continuous voxel coordinates of the file's own grid, in which voxel i has its centre at i and its
    faces at i - 0.5 and i + 0.5, as affines have it.

    Attributes:
        label: class name.
        value: its label value; None where the labels are not known.
        points_N4: (N, 4) x, y, z, and 1 inside or 0 outside.
        box_6: x0, y0, z0, x1, y1, z1 of the box's faces, or None.
        text: or None.
    """

    label: str
    value: int | None
    points_N4: NDArray[np.float64]
    box_6: NDArray[np.float64] | None
    text: str | None


def _check_point(point: tuple[float, ...]) -> tuple[float, ...]:
    if len(point) not in (3, 4):
        raise ValueError(f"{len(point)} numbers, [x, y, z, 1] is expected")
    if point[-1] not in (0, 1):
        raise ValueError(f"it ends with {point[-1]:g}, 1 (inside) or 0 (outside) is expected")
    return point


def _check_box(box: tuple[float, ...]) -> tuple[float, ...]:
    if len(box) not in (4, 6):
        raise ValueError(f"{len(box)} numbers, [x0, y0, z0, x1, y1, z1] is expected")
    return box


class PromptEntry(BaseModel):
    """One structure of one case, as written in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str | None = None
    points: tuple[Annotated[tuple[_Number, ...], AfterValidator(_check_point)], ...] = ()
    box: Annotated[tuple[_Number, ...], AfterValidator(_check_box)] | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.points and self.box is None and self.text is None:
            raise ValueError("neither points nor box nor text")
        if self.label is None and self.text is None:
            raise ValueError("neither label nor text")
        return self

    @property
    def name(self) -> str:
        """The class name: the label, else the text."""
        return self.label if self.label is not None else self.text or ""


class PromptsFile(BaseModel):
    """A prompts file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(alias="schema")
    space: Literal["voxel", "mm"]
    axes: Literal["xyz"] = "xyz"
    cases: dict[str, tuple[PromptEntry, ...]]

    def for_case(self, case_id: str, geometry: Geometry, labels: Mapping[str, int]) -> tuple[VolumePrompt, ...]:
        """The prompts of one case on its own grid.

        Args:
            case_id: as in the file.
            geometry: of the image the prompts are for.
            labels: class name to value of the model; empty when it knows no names.

        Raises:
            DataError: the case is absent, a label is unknown, or a coordinate lies outside the image; all together.
        """
        if case_id not in self.cases:
            raise DataError(
                f"no prompts for case '{case_id}'",
                why=did_you_mean(case_id, self.cases),
                fix=f'add "{case_id}" under "cases" of the prompts file',
            )
        problems: list[DataError] = []
        found: list[VolumePrompt] = []
        for position, entry in enumerate(self.cases[case_id]):
            where = f"prompts $.cases.{case_id}[{position}]"
            if labels and entry.name not in labels:
                fix = did_you_mean(entry.name, labels)
                problems.append(DataError(f"unknown label '{entry.name}'", where=where, fix=fix))
            points, wrong = _points(entry, self.space, geometry)
            box_6, wrong_box = _box(entry, self.space, geometry)
            fix = "coordinates are x first, counted from 0; check 'space'"
            problems += [DataError("bad prompt", where=where, why=why, fix=fix) for why in (*wrong, *wrong_box)]
            value = labels.get(entry.name)
            found.append(VolumePrompt(label=entry.name, value=value, points_N4=points, box_6=box_6, text=entry.text))
        raise_all(problems)
        return tuple(found)


def read_prompts(path: Path) -> PromptsFile:
    """Read a prompts file.

    Raises:
        DataError: not JSON, or values that are wrong; every one, with its place in the file.
    """
    content = jsonio.read(path)
    try:
        return PromptsFile.model_validate(content)
    except ValidationError as error:
        raise_all([_problem(path, dict(item)) for item in error.errors(include_url=False)])
        raise


def _points(entry: PromptEntry, space: str, geometry: Geometry) -> tuple[NDArray[np.float64], list[str]]:
    flat = geometry.shape[2] == 1
    points, problems = [], []
    for position, point in enumerate(entry.points):
        if len(point) == 3 and not (flat and space == "voxel"):
            problems.append(
                f"points[{position}] has no z, which only voxel coordinates of a single slice may leave out"
            )
            continue
        place = np.array([*point[:2], 0.0] if len(point) == 3 else point[:3], float)
        voxel = geometry.to_voxels(place[None])[0] if space == "mm" else place
        if not _inside(voxel, geometry):
            problems.append(
                f"points[{position}] {_says(place, voxel, space)} is outside the image of {_grid(geometry)}"
            )
        points.append([*voxel, point[-1]])
    return np.array(points, float).reshape(-1, 4), problems


def _box(entry: PromptEntry, space: str, geometry: Geometry) -> tuple[NDArray[np.float64] | None, list[str]]:
    if entry.box is None:
        return None, []
    flat = geometry.shape[2] == 1
    if len(entry.box) == 4:
        if not (flat and space == "voxel"):
            return None, ["box has no z, which only voxel coordinates of a single slice may leave out"]
        x0, y0, x1, y1 = entry.box
        corners = np.array([[x0, y0, 0], [x1, y1, 0]], float)
    else:
        corners = np.array(entry.box, float).reshape(2, 3)
    if space == "voxel":
        first, last = corners
        if (last < first).any():
            return None, [f"box {_numbers(entry.box)} ends before it begins"]
        faces = np.stack([first - 0.5, last + 0.5])
        outside = not (_inside(first, geometry) and _inside(last, geometry))
    else:
        # Opposite corners stay opposite under any affine only where its axes are the world's; take all eight.
        grid = [[corners[i, 0], corners[j, 1], corners[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        voxels = geometry.to_voxels(np.array(grid))
        faces = np.stack([voxels.min(axis=0), voxels.max(axis=0)])
        limit = np.array(geometry.shape) - 0.5
        # A hand-drawn box may hang over the image's edge: what lies inside counts.
        outside = bool((faces[1] <= -0.5).any() or (faces[0] >= limit).any())
        faces = np.clip(faces, -0.5, limit)
        if not outside and (faces[1] - faces[0] <= 0).any():
            return None, [f"box {_numbers(entry.box)} has no volume"]
    if outside:
        return None, [f"box {_numbers(entry.box)} ({space}) is outside the image of {_grid(geometry)}"]
    return faces.reshape(6), []


def _inside(voxel: NDArray[np.float64], geometry: Geometry) -> bool:
    return bool((voxel >= -0.5).all() and (voxel <= np.array(geometry.shape) - 0.5).all())


def _says(place: NDArray[np.float64], voxel: NDArray[np.float64], space: str) -> str:
    if space == "voxel":
        return f"[{_numbers(place)}]"
    return f"[{_numbers(place)}] mm (voxel [{_numbers(voxel)}])"


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _grid(geometry: Geometry) -> str:
    return "x".join(map(str, geometry.shape)) + " voxels"


def _problem(path: Path, item: dict[str, Any]) -> DataError:
    place = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])
    message, value = item["msg"].removeprefix("Value error, "), item.get("input")
    fix = "correct the value"
    if item["type"] == "extra_forbidden":
        key = str(item["loc"][-1])
        fields = PromptEntry.model_fields if len(item["loc"]) > 1 else ("schema", "space", "axes", "cases")
        close = nearest(key, fields)
        message, fix = "unknown key", f"did you mean '{close}'?" if close else f"keys here are {', '.join(fields)}"
    elif item["type"] == "missing":
        message, fix = "missing key", f'add "{item["loc"][-1]}"'
    elif isinstance(value, str | int | float):
        message = f"{message}, not {value!r}"
    return DataError("bad prompts file", where=path, why=f"{place}: {message}", fix=fix)
