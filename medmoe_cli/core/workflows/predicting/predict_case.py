"""One case of a prediction: what it is made from, whether it is done, and everything that is written about it.

A case counts as done when its mask and its receipt (`.medmoe/CASE.json`: what it was made from, and its sha256) are
both there; the same command run again does only what is missing. Masks that other settings made are never replaced
without being asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medmoe_cli.core.base import atomic, jsonio
from medmoe_cli.core.base.errors import ConfigError, MedMoEError, ResourceError, raise_all
from medmoe_cli.core.base.hashing import file_sha256, value_sha256
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.sliced_scan import SlicedScan
from medmoe_cli.core.imaging.image import Image
from medmoe_cli.core.imaging.write import label_ending, write_labels, write_volume
from medmoe_cli.core.reporting.overlay import draw_preview
from medmoe_cli.core.workflows.predicting.case_output import file_labels, preview_rows
from medmoe_cli.core.workflows.predicting.postprocess import apply_rules
from medmoe_cli.core.workflows.predicting.presence import found_by_name
from medmoe_cli.core.workflows.predicting.scans import ScanCase, read_scan
from medmoe_cli.core.workflows.predicting.segmenting import segment_together
from medmoe_cli.core.workflows.scoring.statistics import structure_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmoe_cli.core.workflows.predicting.ensemble import Ensemble

RECEIPTS = ".medmoe"


class CaseOptions(Protocol):
    """The part of the options that says what is written."""

    @property
    def save_probabilities(self) -> bool:
        """A float map per class."""

    @property
    def preview(self) -> bool:
        """A picture per case."""

    @property
    def statistics(self) -> bool:
        """Volumes and intensities."""

    @property
    def overwrite(self) -> bool:
        """Replace masks that are there."""


class PredictJob:
    """One prediction's settings; predicts cases one by one."""

    def __init__(
        self, ensemble: Ensemble, options: CaseOptions, output: Path, check: Callable[[], None] = lambda: None
    ) -> None:
        self.ensemble, self.options, self.output, self.check = ensemble, options, output, check
        self.plan = ensemble.plan
        self.statistics: dict[str, Any] = {}
        self.concepts: dict[str, dict[str, Any]] = {}

    def receipt(self, case: ScanCase) -> Path:
        """Where the case's receipt lies."""
        return self.output / RECEIPTS / f"{case.id}.json"

    def identity(self, case: ScanCase) -> str:
        """Changes with anything that could change the case's mask or by-products."""
        options = self.options
        return value_sha256(
            {
                "models": self.ensemble.identity(),
                "inputs": [_content_sha256(path) for path in case.files],
                "prompts": self.ensemble.sources[0].identity(case.id),
                "names": self.plan.file_names,
                "extras": [options.save_probabilities, options.preview, options.statistics],
            }
        )

    def cached(self, case: ScanCase, identity: str) -> Path | None:
        """The case's mask when it is done with these very settings and undamaged."""
        receipt = self.receipt(case)
        if self.options.overwrite or not receipt.is_file():
            return None
        content = jsonio.read(receipt)
        mask = self.output / str(content.get("mask"))
        if content.get("identity") != identity or not mask.is_file() or content.get("sha256") != file_sha256(mask):
            return None
        if self.options.statistics:
            self.statistics[case.id] = content.get("statistics")
        self.concepts[case.id] = content.get("concepts", {})
        return mask

    def refuse_foreign_masks(self, cases: Sequence[ScanCase]) -> None:
        """Refuse to replace masks that these settings did not make, all together.

        Raises:
            ConfigError: there are some and --overwrite was not given.
        """
        if self.options.overwrite:
            return
        problems: list[MedMoEError] = []
        for case in cases:
            present = [
                path
                for path in self.output.glob(f"{case.id}.*")
                if path.name.startswith(f"{case.id}.") and path.suffix != ".json"
            ]
            if present and self.cached(case, self.identity(case)) is None:
                problems.append(
                    ConfigError(
                        f"case '{case.id}' has a mask already",
                        where=present[0],
                        why="another model, other prompts or another program made it",
                        fix="choose another -o, or add --overwrite",
                    )
                )
        raise_all(problems)

    def predict(self, case: ScanCase, identity: str) -> Path:
        """Predict one case and write everything about it; the receipt last."""
        image = read_scan(case, num_channels=self.ensemble.read_channels)
        members = self.ensemble.members(case.id, image)
        prepared = members[0].prepared
        with _probabilities(self.output, self.plan, prepared, wanted=self.options.save_probabilities) as store:
            found = segment_together(members, threshold=self.ensemble.threshold, probabilities=store, check=self.check)
            segmented = apply_rules(found, self.ensemble.rules, self.plan)
            labels = file_labels(prepared, segmented)
            mask = self.output / f"{case.id}{label_ending(image)}"
            write_labels(mask, labels, image, label_names=self.plan.file_names)
            if store is not None:
                self._write_probabilities(case, image, prepared, store)
        extra: dict[str, Any] = {}
        concepts = jsonio.plain(found_by_name(segmented, labels, self.plan, self.ensemble.asked))
        if concepts:
            extra["concepts"] = self.concepts[case.id] = concepts
        if self.options.statistics:
            extra["statistics"] = structure_statistics(labels, image.data[0], image.geometry, self.plan.file_names)
            self.statistics[case.id] = extra["statistics"]
        if self.options.preview:
            names = {value: name for name, value in self.plan.labels.items()}
            rows = preview_rows(prepared, segmented)
            draw_preview(self.output / "previews" / f"{case.id}.png", rows, names=names, title=case.id)
        jsonio.write(
            self.receipt(case),
            {
                "identity": identity,
                "mask": mask.name,
                "sha256": file_sha256(mask),
                "requests": segmented.num_requests,
                "tokens": segmented.tokens,
                "voxels_removed": int((found.labels_SHW != segmented.labels_SHW).sum()),
                **extra,
            },
        )
        return mask

    def _write_probabilities(
        self, case: ScanCase, image: Image, prepared: SlicedScan, store: NDArray[np.float16]
    ) -> None:
        ending = ".nii.gz" if image.header.format not in {"nrrd", "mha", "tiff"} else label_ending(image)
        for name, value in self.plan.labels.items():
            grid = prepared.to_file_grid(store[value - 1])
            path = self.output / "probabilities" / f"{case.id}_{name}{ending}"
            write_volume(path, np.ascontiguousarray(grid, dtype=np.float32), image)


@contextmanager
def _probabilities(
    output: Path, plan: Plan, prepared: SlicedScan, *, wanted: bool
) -> Iterator[NDArray[np.float16] | None]:
    """A disk-backed (classes, slices, rows, cols) array of zeros, gone at the end."""
    if not wanted:
        yield None
        return
    path = atomic.temporary_sibling(output / "probabilities.raw")
    shape = (len(plan.labels), *prepared.shape_SHW)
    try:
        yield np.memmap(path, dtype=np.float16, mode="w+", shape=shape)
    except OSError as error:
        raise ResourceError(
            "no room for probabilities", where=output, why=str(error), fix="free disk, or leave --save-probabilities"
        ) from error
    finally:
        path.unlink(missing_ok=True)


def _content_sha256(path: Path) -> str:
    if path.is_dir():
        return value_sha256([file_sha256(file) for file in sorted(path.iterdir()) if file.is_file()])
    return file_sha256(path)
