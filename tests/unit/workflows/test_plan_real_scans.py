"""Plans and slices of real scans: hippocampus volumes and abdominal CT pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.config.sections import AugmentConfig, PlanConfig
from medmoe_cli.core.data.index import open_dataset
from medmoe_cli.core.data.load import load_image, load_label
from medmoe_cli.core.data.prepare import prepare
from medmoe_cli.core.data.preprocess import make_jobs, preprocess
from medmoe_cli.core.data.source import SliceSource
from medmoe_cli.core.data.splits import all_splits, split
from medmoe_cli.core.workflows.convert import run_convert
from medmoe_cli.core.workflows.plan import ensure_plan
from medmoe_cli.core.workflows.preprocess import ensure_preprocessed

pytestmark = pytest.mark.realdata


def test_hippocampus(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "Task04_Hippocampus"
    root = tmp_path / "datasets" / "hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    images = [path for path in sorted((source / "imagesTr").glob("hippo*.nii.gz")) if not path.name.startswith(".")]
    for path in images:
        (root / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(path)
        (root / "labelsTr" / path.name).symlink_to(source / "labelsTr" / path.name)
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(images),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    workspace = Workspace(root=tmp_path, origin="test")
    planned = ensure_plan(
        workspace=workspace,
        dataset=open_dataset(root),
        method="segmote",
        preset="test",
        overrides=PlanConfig(),
        workers=1,
        reporter=Silent(),
    )
    plan = planned.plan
    assert planned.fingerprint.num_cases == len(images)
    assert planned.fingerprint.median_spacing_mm == (1.0, 1.0, 1.0)
    assert (plan.slice_axis, plan.input_size, plan.channels[0].normalization) == (2, 64, "percentile")
    assert plan.mirror_axes == ("horizontal",)
    folds = all_splits(planned.dataset, folder=planned.folder)
    assert sum(len(fold.validation) for fold in folds) == len(images)
    for case in planned.dataset.training[:6]:
        image = load_image(case.images)
        assert case.label is not None
        label = load_label(case.label, image)
        prepared = prepare(image, plan.model_copy(update={"input_size": max(image.geometry.shape[:2])}))
        slices = prepared.label_slices(label)
        back = np.stack(
            [
                prepared.restore(np.stack([prepared.fit.fit_label(part) == value for value in range(3)])).argmax(axis=0)
                for part in slices
            ]
        )
        assert (prepared.to_file_grid(back) == label).all()
    amid = plan.model_copy(update={"context_slices": 1})
    jobs = make_jobs(planned.dataset, amid, planned.inputs, tmp_path / "store")[:3]
    done = preprocess(jobs, fingerprint=planned.fingerprint, workers=1, reporter=Silent())
    slices = SliceSource(
        store=done.store, records=done.records, cases=sorted(done.records), plan=amid, empty_fraction=None
    )
    shown = {job.case.id: prepare(load_image(job.case.images), amid) for job in jobs}
    assert len(slices) == sum(prepared.num_slices for prepared in shown.values())
    for position in range(len(slices)):
        sample = slices.load(position, seed=None)
        assert sample.image.shape == (3, 64, 64)
        assert (sample.image == shown[sample.case_id].slice(sample.index).image).all()


def test_abdominal_pictures(real_data: Path, tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, origin="test")
    run_convert(
        source=real_data / "BTCV",
        format="imed361m",
        name="btcv",
        workspace=workspace,
        limit=24,
        workers=1,
        reporter=Silent(),
    )
    planned = ensure_plan(
        workspace=workspace,
        dataset=open_dataset(workspace.dataset("btcv")),
        method="segmote",
        preset="test",
        overrides=PlanConfig(input_size=256),
        workers=1,
        reporter=Silent(),
    )
    plan = planned.plan
    assert plan.channels[0].normalization == "rgb"
    assert "windowed already" in plan.reasons["normalization"]
    assert plan.mirror_axes == ()
    assert len(plan.labels) == 13
    assert plan.class_prompts["kidney_right"] == "right kidney"
    ready = ensure_preprocessed(planned, workers=1, reporter=Silent())
    train, validation = split(planned.dataset, 0, folder=planned.folder)
    assert {name[:7] for name in train}.isdisjoint(name[:7] for name in validation)
    source = SliceSource(
        store=ready.store, records=ready.records, cases=train, plan=plan, augment=AugmentConfig(scale_probability=1.0)
    )
    assert len(source) == len(train)
    for index in range(len(source)):
        sample = source.load(index, seed=index)
        assert sample.image.shape == (1, 256, 256)
        assert sample.label is not None
        assert set(np.unique(sample.label)) <= {0, *source.classes(index)}
