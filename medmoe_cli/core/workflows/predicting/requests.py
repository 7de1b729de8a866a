"""What is asked of a model: requests made from a prompts file, from masks, from class names, or from nothing.

A `Request` asks for one mask of one slice; coordinates are the network's input pixels. 3D models are asked for masks
in a volume (`VolumeRequest`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError, DataError, GeometryError, MedMoEError, raise_all
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.base.suggest import did_you_mean
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.load import number_labels
from medmoe_cli.core.data.prepare import Prepared
from medmoe_cli.core.data.prompts_file import PromptsFile, VolumePrompt
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.data.vocabulary import key_of
from medmoe_cli.core.data.volume_scan import VolumeScan
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.nn.prompts import Click, QueryPrompt, simulate
from medmoe_cli.core.nn.segmenter import PromptKind
from medmoe_cli.core.workflows.predicting.concepts import class_of
from medmoe_cli.core.workflows.predicting.mask_values import mask_values
from medmoe_cli.core.workflows.predicting.slice_prompts import prompts_by_slice
from medmoe_cli.core.workflows.predicting.volume_requests import VolumeRequest, request_of_prompt, requests_of_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One mask asked for on one slice.

    Attributes:
        slice_index: along the plan's slice axis.
        value: the label value written where this mask wins; 0 asks an automatic method for all classes.
        prompt: in input pixels.
        reference: bool (S, S) on the input grid, from which correction clicks are drawn; None when nobody clicks.
        rounds: correction clicks to give.
        follow: carry the answer on to the neighbouring slices (a point in a volume names a structure, not a slice).
    """

    slice_index: int
    value: int
    prompt: QueryPrompt
    reference: NDArray[np.bool_] | None = None
    rounds: int = 0
    follow: bool = False


Requests = Sequence[Request | VolumeRequest]


class RequestSource(ABC):
    """Makes the requests of a case."""

    kinds: frozenset[PromptKind]

    @abstractmethod
    def requests(self, case_id: str, prepared: Prepared) -> tuple[Request, ...]:
        """The case's requests in slice order; may be empty.

        Raises:
            DataError: the case has no prompts, or ones that do not fit the image.
        """

    @abstractmethod
    def volume_requests(self, case_id: str, scan: VolumeScan) -> tuple[VolumeRequest, ...]:
        """The same of a volume.

        Raises:
            DataError: as `requests`.
        """

    def requests_of(self, case_id: str, scan: Prepared | VolumeScan) -> Requests:
        """The case's requests, slice by slice or of the volume as the scan was prepared."""
        return self.volume_requests(case_id, scan) if isinstance(scan, VolumeScan) else self.requests(case_id, scan)

    @abstractmethod
    def identity(self, case_id: str) -> str:
        """Changes when the case's requests may have changed; for resuming."""


class FromFile(RequestSource):
    """`--prompts FILE`: points, boxes and texts in voxels or mm."""

    def __init__(self, prompts: PromptsFile, plan: Plan, *, synonyms: Sequence[str] = ()) -> None:
        """`synonyms` are words besides the plan's that the model was made to understand."""
        self._prompts, self._plan, self._synonyms = prompts, plan, tuple(map(key_of, synonyms))
        self.kinds = frozenset(_kinds_in(prompts))

    def requests(self, case_id: str, prepared: Prepared) -> tuple[Request, ...]:
        """As written in the file."""
        found: list[Request] = []
        for prompt in self._prompts.for_case(case_id, prepared.image.geometry, self._plan.labels):
            found += self._of_prompt(prompt, prepared)
        return tuple(sorted(found, key=lambda request: request.slice_index))

    def volume_requests(self, case_id: str, scan: VolumeScan) -> tuple[VolumeRequest, ...]:
        """One per entry."""
        return tuple(
            request_of_prompt(prompt, scan, value=self._value(prompt), class_index=self._class_index(prompt))
            for prompt in self._prompts.for_case(case_id, scan.image.geometry, self._plan.labels)
        )

    def identity(self, case_id: str) -> str:
        """Of the case's entries."""
        entries = self._prompts.cases.get(case_id, ())
        return value_sha256([self._prompts.space, [entry.model_dump() for entry in entries]])

    def _value(self, prompt: VolumePrompt) -> int:
        if prompt.value is None:
            raise DataError(f"unknown label '{prompt.label}'", fix=did_you_mean(prompt.label, self._plan.labels))
        return prompt.value

    def _class_index(self, prompt: VolumePrompt) -> int:
        """Of the text, -1 without one."""
        if prompt.text is None:
            return -1
        name = class_of(prompt.text, self._plan)
        if name is None and key_of(prompt.text) in self._synonyms:
            return len(self._plan.class_names) + self._synonyms.index(key_of(prompt.text))
        if name is None:
            fix = did_you_mean(prompt.text, self._plan.labels)
            raise DataError(f"unknown text '{prompt.text}'", why="the model learned its classes' names", fix=fix)
        return self._plan.class_names.index(name)

    def _of_prompt(self, prompt: VolumePrompt, prepared: Prepared) -> list[Request]:
        value, text = self._value(prompt), self._class_index(prompt)
        places = prompts_by_slice(prompt, prepared)
        if not places:
            return [
                Request(slice_index=index, value=value, prompt=QueryPrompt(class_index=text))
                for index in range(prepared.num_slices)
            ]
        follow = prompt.box_6 is None and prepared.num_slices > 1
        return [
            Request(
                slice_index=index,
                value=value,
                prompt=QueryPrompt(
                    clicks=tuple(Click(position=(x, y), foreground=bool(inside)) for x, y, inside in place.points_N3),
                    box=None if place.box_4 is None else tuple(float(edge) for edge in place.box_4),
                    class_index=text,
                ),
                follow=follow and bool((place.points_N3[:, 2] == 1).any()),
            )
            for index, place in places.items()
        ]


class FromMasks(RequestSource):
    """`--prompts-from MASKS`: simulated from reference masks, slice by slice; correction clicks on the error."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        kind: Literal["point", "box", "mask"],
        clicks: int,
        mask_size: tuple[int, ...],
    ) -> None:
        self._folder, self._plan, self._kind, self._clicks = folder, plan, kind, clicks
        self._mask_size = mask_size
        self.kinds = frozenset({kind})
        if not folder.is_dir():
            raise DataError("masks folder not found", where=folder, fix="give the folder with one mask per case")
        self._files = _by_id(folder)
        self._values = mask_values(folder, plan)

    def file(self, case_id: str) -> Path:
        """The case's mask.

        Raises:
            DataError: there is none.
        """
        if case_id not in self._files:
            why = did_you_mean(case_id, self._files)
            raise DataError(
                f"no mask for case '{case_id}'", where=self._folder, why=why, fix="name masks like the scans"
            )
        return self._files[case_id]

    def slices(self, case_id: str, prepared: SlicedScan) -> NDArray[np.integer]:
        """The case's mask on the scan's slices, numbered as the model's plan numbers the classes.

        Raises:
            DataError: it cannot be read, or holds values that nobody names.
            GeometryError: it lies on another grid than the scan.
        """
        return prepared.label_slices(reference_labels(self.file(case_id), prepared, self._values))

    def requests(self, case_id: str, prepared: Prepared) -> tuple[Request, ...]:
        """One per slice and class that the mask holds."""
        return self.simulated(
            self.slices(case_id, prepared),
            prepared,
            self._plan,
            kind=self._kind,
            clicks=self._clicks,
            mask_size=self._mask_size,
        )

    def volume_requests(self, case_id: str, scan: VolumeScan) -> tuple[VolumeRequest, ...]:
        """One per class that the mask holds."""
        labels = scan.label_volume(reference_labels(self.file(case_id), scan, self._values))
        return requests_of_labels(labels, self._plan, kind=self._kind, clicks=self._clicks)

    @staticmethod
    def simulated(
        labels_SHW: NDArray[np.integer],
        prepared: Prepared,
        plan: Plan,
        *,
        kind: Literal["point", "box", "mask"],
        clicks: int,
        mask_size: tuple[int, ...],
    ) -> tuple[Request, ...]:
        """The same from label values (slices, rows, cols)."""
        found: list[Request] = []
        known = set(plan.labels.values())
        rounds = clicks - 1 if kind == "point" else clicks
        for index in range(prepared.num_slices):
            present = sorted(set(np.unique(labels_SHW[index]).tolist()) & known)
            if not present:
                continue
            fitted = prepared.fit.fit_label(labels_SHW[index])
            for value in present:
                mask = fitted == value
                if mask.any():
                    prompt = simulate(kind, mask, mask_size=mask_size)
                    found.append(
                        Request(slice_index=index, value=value, prompt=prompt, reference=mask, rounds=max(rounds, 0))
                    )
        return tuple(found)

    def identity(self, case_id: str) -> str:
        """Of the mask's bytes and the way it is prompted."""
        values = sorted(self._values.items())
        return value_sha256([self._kind, self._clicks, values, file_sha256(self.file(case_id))])


class FromClassNames(RequestSource):
    """`--text NAME`, or the classes of a multi-class model when nothing is said: each class on every slice.

    They are asked for in the order of their label values, each once, however they are named.
    """

    kinds = frozenset({"text"})

    def __init__(self, plan: Plan, names: Sequence[str], *, promptable: Sequence[str] | None = None) -> None:
        """`promptable` are the classes that the model finds by their names; None for all."""
        classes = {name: class_of(name, plan) for name in names}
        problems: list[MedMoEError] = [
            ConfigError(
                f"unknown class '{name}'", where="--text", why=did_you_mean(name, plan.labels), fix="correct it"
            )
            for name, found in classes.items()
            if found is None
        ]
        raise_all(problems)
        known = plan.class_names if promptable is None else tuple(promptable)
        self._plan = plan
        self._names = tuple(name for name in plan.class_names if name in classes.values()) or known
        raise_all(
            [
                ConfigError(
                    f"class '{name}' needs a prompt",
                    where="--text",
                    why=f"this model looks by name for {', '.join(known) or 'no class'} alone",
                    fix="give points or boxes with --prompts FILE",
                )
                for name in self._names
                if name not in known
            ]
        )

    def requests(self, case_id: str, prepared: Prepared) -> tuple[Request, ...]:
        """Every class on every slice."""
        positions = {name: index for index, name in enumerate(self._plan.class_names)}
        return tuple(
            Request(slice_index=index, value=self._plan.labels[name], prompt=QueryPrompt(class_index=positions[name]))
            for index in range(prepared.num_slices)
            for name in self._names
        )

    def volume_requests(self, case_id: str, scan: VolumeScan) -> tuple[VolumeRequest, ...]:
        """Every class."""
        positions = {name: index for index, name in enumerate(self._plan.class_names)}
        return tuple(
            VolumeRequest(value=self._plan.labels[name], prompt=QueryPrompt(class_index=positions[name]))
            for name in self._names
        )

    def identity(self, case_id: str) -> str:
        """Of the names."""
        return value_sha256(["text", self._names])


class FromNothing(RequestSource):
    """No prompts: a binary model prompts itself, an automatic one needs none."""

    kinds = frozenset({"none"})

    def __init__(self, *, value: int) -> None:
        self._value = value

    def requests(self, case_id: str, prepared: Prepared) -> tuple[Request, ...]:
        """One per slice."""
        return tuple(
            Request(slice_index=index, value=self._value, prompt=QueryPrompt()) for index in range(prepared.num_slices)
        )

    def volume_requests(self, case_id: str, scan: VolumeScan) -> tuple[VolumeRequest, ...]:
        """The one class there is."""
        return (VolumeRequest(value=self._value, prompt=QueryPrompt()),)

    def identity(self, case_id: str) -> str:
        """Always the same."""
        return "none"


def reference_slices(path: Path, prepared: SlicedScan) -> NDArray[np.integer]:
    """A label map on a scan's slices (slices, rows, cols), its values numbered as the plan numbers the classes.

    Raises:
        DataError: it cannot be read, or holds values that the model does not know.
        GeometryError: it lies on another grid than the scan.
    """
    return prepared.label_slices(reference_labels(path, prepared))


def reference_labels(path: Path, prepared: SlicedScan, numbers: Mapping[int, int] | None = None) -> NDArray[np.integer]:
    """The same in the file's own voxel order (X, Y, Z); `numbers` are the plan's values by the file's."""
    labels = read_labels(path)
    differences = prepared.image.geometry.differences(labels.geometry)
    if differences:
        raise GeometryError(
            "mask lies on another grid than its scan",
            where=path,
            why="; ".join(differences),
            fix="resample the mask to the scan's grid",
        )
    if numbers is None:
        numbers = {file_value: value for value, file_value in prepared.plan.file_values.items()}
    return number_labels(labels.data, numbers, path)


def _kinds_in(prompts: PromptsFile) -> set[PromptKind]:
    kinds: set[PromptKind] = set()
    for entries in prompts.cases.values():
        for entry in entries:
            if entry.points:
                kinds.add("point")
            if entry.box is not None:
                kinds.add("box")
            if entry.text is not None:
                kinds.add("text")
    return kinds


def _by_id(folder: Path) -> Mapping[str, Path]:
    from medmoe_cli.core.workflows.predicting.scans import find_scans

    return {scan.id: scan.files[0] for scan in find_scans(folder, num_channels=1)}
