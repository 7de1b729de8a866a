"""Where names resolve: `--workspace`, else $MEDMOE_HOME, else ~/.medmoe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medmoe_cli.core.base.errors import DataError
from medmoe_cli.core.base.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """The folder that holds datasets, preprocessed data, runs and models; `origin` says who chose it."""

    root: Path
    origin: str

    @property
    def datasets(self) -> Path:
        """Raw datasets, one folder each (nnU-Net v2 layout)."""
        return self.root / "datasets"

    @property
    def preprocessed(self) -> Path:
        """Preprocessed cases, fingerprints and plans, per dataset."""
        return self.root / "preprocessed"

    @property
    def runs(self) -> Path:
        """Trainings: runs/DATASET/METHOD/RUN/fold_N."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """Backbones and imported models, one folder each."""
        return self.root / "models"

    def dataset(self, name_or_path: str) -> Path:
        """The folder of a dataset given by name or path.

        Raises:
            DataError: neither a known name nor a folder with a dataset.json.
        """
        named = self.datasets / name_or_path
        if (named / "dataset.json").is_file():
            return named
        path = Path(name_or_path)
        if path.is_dir():
            if (path / "dataset.json").is_file():
                return path.resolve()
            raise DataError(
                "not a dataset",
                where=path,
                why="it has no dataset.json",
                fix=f"medmoe convert {path} --format folder --name {path.resolve().name}",
            )
        known = sorted(folder.name for folder in self.datasets.glob("*") if (folder / "dataset.json").is_file())
        why = did_you_mean(name_or_path, known)
        if why.startswith("did you mean"):
            why += f" There are {', '.join(known[:12])}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")
        raise DataError(
            f"unknown dataset '{name_or_path}'",
            where=self.datasets,
            why=why,
            fix="medmoe convert SOURCE --format FORMAT --name NAME",
        )


def find_workspace(flag: Path | None) -> Workspace:
    """Resolve the workspace; nothing is created."""
    if flag is not None:
        return Workspace(root=flag.expanduser().resolve(), origin="--workspace")
    home = os.environ.get("MEDMOE_HOME")
    if home:
        return Workspace(root=Path(home).expanduser().resolve(), origin="MEDMOE_HOME")
    return Workspace(root=Path.home() / ".medmoe", origin="default")
