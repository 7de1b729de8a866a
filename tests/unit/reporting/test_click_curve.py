from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture

from medmoe_cli.core.reporting.click_curve import ClickCurve, draw_click_curves
from medmoe_cli.core.reporting.palette import class_colours

NAN = float("nan")


def curve(name: str, value: int | None, *means: float) -> ClickCurve:
    intervals = tuple(None if np.isnan(mean) else (mean - 0.1, mean + 0.05) for mean in means)
    return ClickCurve(name=name, value=value, means=means, intervals=intervals)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Picture.open(path).convert("RGB")).astype(int)


def drawn_rows(path: Path, colour: str) -> np.ndarray:
    """Rows (from the top) where a colour is on the paper, left of the legend."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    picture = pixels(path)[:, 60:900]
    return np.flatnonzero((np.abs(picture - wanted).max(axis=2) < 8).any(axis=1))


def test_a_better_class_lies_higher_and_every_class_has_its_colour(tmp_path: Path) -> None:
    curves = [
        curve("liver", 1, 0.8, 0.85, 0.9),
        curve("tumour", 2, 0.2, 0.25, 0.3),
        curve("mean", None, 0.5, 0.55, 0.6),
    ]
    path = draw_click_curves(tmp_path / "clicks.png", curves, title="t")
    colours = class_colours([1, 2])
    assert drawn_rows(path, colours[1]).max() < drawn_rows(path, colours[2]).min()
    again = draw_click_curves(tmp_path / "again.png", curves, title="t")
    assert again.read_bytes() == path.read_bytes()


def test_one_click_no_intervals_undefined_values_and_thirty_classes_can_be_drawn(tmp_path: Path) -> None:
    single = draw_click_curves(tmp_path / "a.png", [curve("x", 1, 0.4)], title="one")
    assert drawn_rows(single, class_colours([1])[1]).size
    gaps = draw_click_curves(tmp_path / "b.png", [curve("x", 1, 0.4, NAN, 0.6)], title="gap")
    assert drawn_rows(gaps, class_colours([1])[1]).size
    many = [curve(f"class {value}", value, 0.3, value / 40) for value in range(1, 31)]
    assert pixels(draw_click_curves(tmp_path / "c.png", many, title="many")).shape[:2] == pixels(single).shape[:2]
