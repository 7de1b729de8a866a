"""Prediction by name, with a model whose words are shades of grey: one vision pass, presence, order, overlaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medmoe_cli.core.base.errors import ConfigError
from medmoe_cli.core.base.progress import Silent
from medmoe_cli.core.base.workspace import Workspace
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel
from medmoe_cli.core.workflows.predict import PredictOptions, PredictResult, run_predict
from medmoe_cli.core.workflows.predicting import ensemble
from tests.tools.datasets import write_nifti
from tests.tools.words import Words, shaded_scan, words_model, words_plan

AFFINE = np.diag([-2.0, -2.0, 4.0, 1.0])
PLAN = words_plan("liver", "kidney_left", "spleen", prompts={"kidney_left": "left kidney"})


class Predictions:
    """Predicts the shaded scan with models of ours in place of stored ones."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        write_nifti(folder / "scans" / "scan.nii.gz", shaded_scan(), AFFINE)

    def __call__(self, models: Sequence[LoadedModel], to: str, **options: Any) -> PredictResult:
        self._patch.setattr(ensemble, "load_models", lambda names, **rest: tuple(models))
        return run_predict(
            workspace=Workspace(root=self.folder, origin="test"),
            source=self.folder / "scans",
            output=self.folder / to,
            options=PredictOptions(device="cpu", precision="32", **options),
            reporter=Silent(),
        )

    def mask(self, to: str) -> NDArray[np.integer]:
        return np.asarray(nib.load(self.folder / to / "scan.nii.gz").dataobj)

    def record(self, to: str) -> dict[str, Any]:
        return json.loads((self.folder / to / "run.json").read_text())

    def names(self, to: str) -> dict[str, int]:
        return json.loads((self.folder / to / "dataset.json").read_text())["labels"]


@pytest.fixture
def predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predictions:
    return Predictions(tmp_path, monkeypatch)


def words(model: LoadedModel) -> Words:
    assert isinstance(model.segmenter, Words)
    return model.segmenter


def test_many_concepts_of_a_slice_cost_one_vision_pass(predictions: Predictions) -> None:
    model = words_model(PLAN)
    predictions([model], "all")
    assert words(model).passes == 6
    assert words(model).decoded == 6 * 3
    model = words_model(PLAN)
    predictions([model], "more", text=("liver", "left kidney", "spleen", "gallstone", "unicorn"))
    assert words(model).passes == 6
    assert words(model).decoded == 6 * 5


def test_what_is_absent_has_no_mask_and_the_record_says_so(predictions: Predictions) -> None:
    predictions([words_model(PLAN)], "out", text=("liver", "gallstone"))
    mask = predictions.mask("out")
    truth = shaded_scan()
    inside = np.abs(truth - 0.3) < 0.05
    assert (mask == 1)[inside].mean() > 0.97
    assert not mask[..., 4:].any()  # no liver there
    record = predictions.record("out")
    assert record["cases"][0]["concepts"] == {
        "liver": {"presence": 0.95, "mask": "found", "trained": True},
        "gallstone": {"presence": 0.05, "mask": "absent", "trained": False},
    }
    assert record["cases"][0]["detail"] == "absent: gallstone"
    assert record["warnings"] == ["not a class this model was trained on: 'gallstone' (label value 4)"]
    assert predictions.names("out") == {"background": 0, "liver": 1, "kidney_left": 2, "spleen": 3, "gallstone": 4}
    again = predictions([words_model(PLAN)], "out", text=("gallstone", "Liver"))
    assert [case.status for case in again.cases] == ["cached"]
    assert predictions.record("out")["cases"][0]["concepts"] == record["cases"][0]["concepts"]


def test_a_new_concept_gets_the_next_value(predictions: Predictions) -> None:
    plan = words_plan("liver").model_copy(update={"file_labels": {"liver": 7}})
    predictions([words_model(plan)], "out", text=("left kidney",))
    mask = predictions.mask("out")
    assert set(np.unique(mask).tolist()) == {0, 8}
    assert predictions.names("out") == {"background": 0, "liver": 7, "left kidney": 8}
    assert sorted(np.unique(np.nonzero(mask)[2]).tolist()) == [2, 3, 4]


@pytest.mark.parametrize("threshold", [0.0, 0.96])
def test_presence_is_a_key(predictions: Predictions, threshold: float) -> None:
    predictions([words_model(PLAN, presence=threshold)], "out", text=("liver",))
    concept = predictions.record("out")["cases"][0]["concepts"]["liver"]
    assert concept["mask"] == ("found" if threshold == 0 else "absent")
    assert predictions.mask("out").any() == (threshold == 0)


def test_neither_order_nor_company_changes_a_mask(predictions: Predictions) -> None:
    texts = ("liver", "gallstone", "unicorn")
    predictions([words_model(PLAN)], "there", text=texts)
    predictions([words_model(PLAN)], "back", text=texts[::-1])
    assert np.array_equal(predictions.mask("there"), predictions.mask("back"))
    predictions([words_model(PLAN)], "alone", text=("liver",))
    assert np.array_equal(predictions.mask("there") == 1, predictions.mask("alone") == 1)


def test_overlaps_go_to_the_more_probable_concept(predictions: Predictions) -> None:
    """The kidney has the spleen's shade but for a little: both answer there, the kidney is nearer."""
    predictions([words_model(PLAN)], "spleen", text=("spleen",), save_probabilities=True)
    assert (predictions.mask("spleen") == 3).sum() > 400
    predictions([words_model(PLAN)], "both", text=("spleen", "left kidney"))
    both = predictions.mask("both")
    inside = np.abs(shaded_scan() - 0.6) < 0.01
    assert (both == 2)[inside].mean() > 0.97
    assert (both == 3).sum() < 0.1 * (predictions.mask("spleen") == 3).sum()


def test_absent_slices_have_no_probability_either(predictions: Predictions) -> None:
    predictions([words_model(PLAN)], "out", text=("liver",), save_probabilities=True)
    kept = np.asarray(nib.load(predictions.folder / "out" / "probabilities" / "scan_liver.nii.gz").dataobj)
    assert kept[..., :4].max() > 0.9
    assert kept[..., 4:].max() == 0


def test_models_decide_on_presence_together(predictions: Predictions) -> None:
    def concept(*presence: float) -> str:
        to = "out" + "-".join(map(str, presence))
        predictions([words_model(PLAN, presence=one, seed=n) for n, one in enumerate(presence)], to, text=("liver",))
        return str(predictions.record(to)["cases"][0]["concepts"]["liver"]["mask"])

    assert concept(0.5, 0.99) == "found"
    assert concept(0.96, 0.99) == "absent"


def test_a_closed_model_refuses_new_words_with_a_suggestion(predictions: Predictions) -> None:
    with pytest.raises(ConfigError, match=r"unknown class 'livre'.*did you mean 'liver'"):
        predictions([words_model(PLAN, open_vocabulary=False)], "out", text=("livre",))
    predictions([words_model(PLAN, open_vocabulary=False)], "out", text=("LIVER",))
    assert set(np.unique(predictions.mask("out")).tolist()) == {0, 1}


def test_a_prompts_file_asks_in_other_words(predictions: Predictions) -> None:
    file = predictions.folder / "prompts.json"
    entries = [{"label": "liver", "text": "left kidney"}, {"label": "stone", "text": "gallstone"}]
    plan = words_plan("liver")
    file.write_text(json.dumps({"schema": 1, "space": "voxel", "cases": {"scan": entries}}))
    predictions([words_model(plan)], "out", prompts=file)
    mask = predictions.mask("out")
    assert sorted(np.unique(np.nonzero(mask == 1)[2]).tolist()) == [2, 3, 4]  # where the kidney is
    assert predictions.names("out") == {"background": 0, "liver": 1, "stone": 2}
    assert "'gallstone' (label value 2)" in predictions.record("out")["warnings"][0]
    assert "'left kidney'" in predictions.record("out")["warnings"][0]
