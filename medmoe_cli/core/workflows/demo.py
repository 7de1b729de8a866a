"""The whole way on phantoms: raw scans, convert, check, plan, train, predict, evaluate. No data, no network.

Every step is the verb a user would type; the command is shown before it runs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmoe_cli.core.base import jsonio
from medmoe_cli.core.base.errors import ConfigError, DataError
from medmoe_cli.core.base.progress import Reporter
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.data.converters.source import ConvertOptions
from medmoe_cli.core.data.phantom import ORGANS, make_phantom
from medmoe_cli.core.imaging.image import Header, Image
from medmoe_cli.core.imaging.read import read_labels
from medmoe_cli.core.imaging.write import write_image, write_labels
from medmoe_cli.core.workflows.check import run_check
from medmoe_cli.core.workflows.convert import run_convert
from medmoe_cli.core.workflows.evaluate import run_evaluate
from medmoe_cli.core.workflows.plan import run_plan
from medmoe_cli.core.workflows.predict import PredictOptions, run_predict
from medmoe_cli.core.workflows.train import TrainOptions, run_train

NUM_TRAINING, NUM_TEST = 10, 2
SPACING_MM = (3.0, 3.0, 6.0)
METHOD, PRESET, DATA, RUN = "segmote", "segmote-tiny", "phantom", "demo"
# Phantoms are small and smooth: a small input and a short training show the way.
SETTINGS = (
    "plan.input_size=128",
    "model.balance_weight=0.01",  # in two minutes on one kind of scan the masks come first
    "model.token_balance_weight=0.01",
    "train.steps=120",
    "train.validation_every=100",
    "train.workers=0",
)
_RECEIPT = "demo.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoRow:
    """One class of the final table; distances in mm."""

    name: str
    dice: float
    hd95_mm: float
    nsd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoResult:
    """How well it went, how long each step took, and where everything lies."""

    folder: Path
    rows: tuple[DemoRow, ...]
    seconds: dict[str, float]
    places: dict[str, Path]


def run_demo(*, folder: Path, overwrite: bool, settings: tuple[str, ...] = SETTINGS, reporter: Reporter) -> DemoResult:
    """Run the demo in `folder`, which gets its own workspace.

    Args:
        folder: made when missing; an earlier demo in it is replaced only with `overwrite`.
        overwrite: replace an earlier demo.
        settings: `--set` assignments of the training.
        reporter: receives the commands and their progress.

    Raises:
        ConfigError: the folder holds an earlier demo, or something else.
    """
    _clear(folder, overwrite=overwrite)
    workspace = Workspace(root=folder / "workspace", origin="demo")
    raw, scans, truth, masks = folder / "raw", folder / "scans", folder / "labels", folder / "masks"
    prompts = folder / "prompts.json"
    steps = _Steps(reporter)
    with steps("phantoms", f"# {NUM_TRAINING + NUM_TEST} phantom scans, CT-like and MR-like, into {folder}"):
        _write_phantoms(raw, scans, truth)
        _write_prompts(prompts, truth)
    with steps("convert", f"medmoe convert {raw} --format folder --name {DATA} --label-names {','.join(ORGANS)}"):
        options = ConvertOptions(images=Path("images"), labels=Path("labels"), label_names=tuple(ORGANS))
        run_convert(
            workspace=workspace, source=raw, format="folder", name=DATA, options=options, workers=1, reporter=reporter
        )
    with steps("check", f"medmoe check {DATA}"):
        found = run_check(workspace=workspace, data=DATA, workers=1, reporter=reporter)
        if found.exit_code:
            raise DataError("the phantoms have defects", where=raw, fix=f"medmoe check {workspace.datasets / DATA}")
    with steps("plan", f"medmoe plan {DATA} --method {METHOD} --preset {PRESET} --explain"):
        plan = run_plan(
            workspace=workspace,
            data=DATA,
            method=METHOD,
            preset=PRESET,
            assignments=settings,
            workers=1,
            reporter=reporter,
        )
        for name, reason in plan.plan.reasons.items():
            reporter.info(f"  {name}: {reason}")
    with steps("train", f"medmoe train --method {METHOD} --data {DATA} --preset {PRESET}" + _as_typed(settings)):
        trained = run_train(
            workspace=workspace,
            options=TrainOptions(method=METHOD, data=DATA, preset=PRESET, name=RUN, assignments=settings),
            reporter=reporter,
        )
    with steps("predict", f"medmoe predict -i {scans} -o {masks} --prompts {prompts} --preview --statistics"):
        run_predict(
            workspace=workspace,
            source=scans,
            output=masks,
            options=PredictOptions(prompts=prompts, preview=True, statistics=True),
            reporter=reporter,
        )
    with steps("evaluate", f"medmoe evaluate -p {masks} -g {truth}"):
        summary = run_evaluate(
            predictions=masks,
            references=truth,
            output=masks / "summary.json",
            dataset=workspace.dataset(DATA),
            workers=1,
            reporter=reporter,
        )
    rows = tuple(
        DemoRow(
            name=item.scored.name,
            dice=item.statistics["Dice"].mean,
            hd95_mm=item.statistics["HD95"].mean,
            nsd=item.statistics["NSD"].mean,
        )
        for item in summary.aggregate.classes
    )
    assert trained.folder is not None
    result = DemoResult(
        folder=folder,
        rows=rows,
        seconds=steps.seconds,
        places={
            "masks": masks,
            "previews": masks / "previews",
            "prompts": prompts,
            "statistics": masks / "statistics.json",
            "metrics": masks / "summary.json",
            "training curves": trained.folder / "progress.png",
            "configuration": trained.folder / "config.resolved.yaml",
        },
    )
    jsonio.write(folder / _RECEIPT, result)
    return result


class _Steps:
    """Shows each step's command and times it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, command: str) -> Iterator[None]:
        self._reporter.info(f"$ {command}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)


def _clear(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    # A demo that was interrupted has no receipt yet, but it has its workspace.
    ours = (folder / _RECEIPT).is_file() or {path.name for path in folder.iterdir()} <= _CONTENT
    if not ours:
        raise ConfigError("the folder holds something else", where=folder, fix="choose another one with -o")
    if not overwrite:
        raise ConfigError("a demo is there already", where=folder, fix=f"medmoe demo -o {folder} --overwrite")
    shutil.rmtree(folder)


_CONTENT = {"workspace", "raw", "scans", "labels", "masks", "prompts.json", _RECEIPT}


def _write_phantoms(raw: Path, scans: Path, truth: Path) -> None:
    for number in range(NUM_TRAINING + NUM_TEST):
        phantom = make_phantom(number, modality="MR" if number % 2 else "CT", spacing_mm=SPACING_MM)
        name = f"{phantom.modality.lower()}_{number:02d}.nii.gz"
        training = number < NUM_TRAINING
        header = Header(format="nifti", path=Path(name))
        image = Image(data=phantom.image[None], geometry=phantom.geometry, header=header)
        write_image((raw / "images" if training else scans) / name, image)
        write_labels((raw / "labels" if training else truth) / name, phantom.labels, image)


def _write_prompts(path: Path, truth: Path) -> None:
    """A box per organ, as a reader would draw them around the structures of the test scans."""
    cases: dict[str, Any] = {}
    for file in sorted(truth.glob("*.nii.gz")):
        labels = read_labels(file).data
        cases[file.name.removesuffix(".nii.gz")] = [
            {
                "label": name,
                "box": [*np.argwhere(labels == value).min(axis=0), *np.argwhere(labels == value).max(axis=0)],
            }
            for name, value in ORGANS.items()
        ]
    jsonio.write(path, {"schema": 1, "space": "voxel", "axes": "xyz", "cases": cases})


def _as_typed(settings: tuple[str, ...]) -> str:
    return "".join(f" --set {setting}" for setting in settings)
