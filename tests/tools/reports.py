"""What a report is made from, made up: summaries, and pages read back."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser

from medmoe_cli.core.reporting.summary_file import SummaryRead


def made_summary(
    dice: Mapping[str, Sequence[float | None]], *, hd95: Mapping[str, Sequence[float | None]] | None = None
) -> SummaryRead:
    """A summary of cases case_0, case_1, ... from each class's Dice; None is a class absent from both masks."""
    hd95 = hd95 or {name: [None if value is None else 10 * (1 - value) for value in row] for name, row in dice.items()}
    number = len(next(iter(dice.values())))
    keys = {name: str(index) for index, name in enumerate(dice, start=1)}

    def statistic(values: Sequence[float | None]) -> dict[str, object]:
        used = [value for value in values if value is not None]
        mean = sum(used) / len(used) if used else None
        interval = [min(used), max(used)] if len(used) > 1 else None
        return {"mean": mean, "ci95": interval, "n_used": len(used), "n_total": len(values)}

    return SummaryRead.model_validate(
        {
            "convention": {"name": "medmoe", "description": "distances in mm"},
            "labels": {key: name for name, key in keys.items()},
            "tolerance_mm": dict.fromkeys(keys.values(), 2.0),
            "n_cases": number,
            "overall": {
                "Dice": statistic([value for row in dice.values() for value in row]),
                "HD95": statistic([value for row in hd95.values() for value in row]),
            },
            "classes": {
                keys[name]: {
                    "name": name,
                    "n_true_negative": sum(value is None for value in row),
                    "n_missed": sum(value == 0 for value in row),
                    "n_false_positive": 0,
                    "n_units": number,
                    "metrics": {"Dice": statistic(row), "HD95": statistic(hd95[name])},
                }
                for name, row in dice.items()
            },
            "metric_per_case": [
                {
                    "case": f"case_{case}",
                    "reference_file": f"/data/labelsTr/case_{case}.nii.gz",
                    "prediction_file": f"/run/masks/case_{case}.nii.gz",
                    "metrics": {
                        keys[name]: {
                            "Dice": row[case],
                            "HD95": hd95[name][case],
                            "presence": "missed" if row[case] == 0 else "both",
                        }
                        for name, row in dice.items()
                    },
                }
                for case in range(number)
            ],
        }
    )


class ReadPage(HTMLParser):
    """A page as a browser would find it: its tags, links out, pictures and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.pictures: list[bytes] = []
        self.alts: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    @property
    def text(self) -> str:
        """What can be read."""
        return re.sub(r"\s+", " ", " ".join(self._words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        if tag not in {"meta", "img", "link", "br"}:
            self._open.append(tag)
        for key in ("src", "href"):
            value = values.get(key, "")
            if value.startswith("#"):
                self.links.add(value[1:])
            elif value.startswith("data:image/png;base64,"):
                self.pictures.append(base64.b64decode(value.partition(",")[2]))
            elif value:
                self.outside.append(value)
        if tag == "img":
            self.alts.append(values.get("alt", ""))
        if "id" in values:
            self.anchors.add(values["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a beginning"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self._words.append(data)
