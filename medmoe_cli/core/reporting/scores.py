"""The result: a table per class, box plots with every case's point, and one line that says it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medmoe_cli.core.reporting.figures import new_figure, plain_axes, png_of
from medmoe_cli.core.reporting.numbers import (
    DASH,
    count,
    distance_digits,
    listed,
    millimetres,
    ratio,
    signed,
    volume_digits,
)
from medmoe_cli.core.reporting.page import Block, Picture, Table, Text
from medmoe_cli.core.reporting.palette import INK
from medmoe_cli.core.reporting.summary_file import ClassRead, PromptingRead, StatisticRead, SummaryRead, UnitRead

_ENOUGH_FOR_A_BOX = 5
_MAX_CASE_ROWS = 60


def headline(summary: SummaryRead) -> str:
    """'Mean Dice 0.842 (95 % CI 0.820 to 0.861) over 2 structures in 26 validation cases; HD95 1.5 mm.'"""
    dice = summary.overall["Dice"]
    text = f"Mean Dice {_with_interval(dice, 'Dice', between=' ')} over {count(len(summary.classes), 'structure')}"
    text += f" in {count(summary.n_cases, 'validation case')}"
    distance = summary.overall.get("HD95")
    if distance is not None and distance.mean is not None:
        text += f"; 95 % of the outline within {millimetres(distance.mean)} mm of the reference on average (HD95)"
    missed = sum(item.n_missed for item in summary.classes.values())
    if missed:
        text += f"; {missed:,} of {dice.n_used:,} structures missed altogether"
    return text + "."


def score_blocks(summary: SummaryRead, colours: Mapping[str, str]) -> tuple[Block, ...]:
    """The table and the box plots.

    Args:
        summary: of the validation cases.
        colours: by class name.
    """
    blocks: list[Block] = [_class_table(summary, colours), *_absences(summary)]
    for metric, axis, caption in (
        ("Dice", "Dice (1 is perfect)", "Dice of every case"),
        ("HD95", "HD95 in mm (0 is perfect)", "HD95 of every case, in mm"),
    ):
        if any(unit.value(key, metric) is not None for unit in summary.metric_per_case for key in summary.classes):
            blocks.append(_box_plot(summary, colours, metric=metric, axis=axis, caption=caption))
    return tuple(blocks)


def _class_table(summary: SummaryRead, colours: Mapping[str, str]) -> Table:
    shown = [
        metric for metric in ("Dice", "HD95", "NSD", "VolumeError", "RelativeVolumeError") if _has(summary, metric)
    ]
    headings = {
        "Dice": "Dice\n(95 % CI)",
        "HD95": "HD95, mm\n(95 % CI)",
        "NSD": f"NSD{_tolerance(summary)}\n(95 % CI)",
        "VolumeError": "Volume error, ml\n(95 % CI)",
        "RelativeVolumeError": "Volume\nerror, %",
    }
    rows, swatches = [], []
    for item in summary.classes.values():
        cells = [_cell(item.metrics[metric], metric) for metric in shown]
        rows.append((_words(item.name), *cells, _used(item), str(item.n_missed), str(item.n_false_positive)))
        swatches.append(colours.get(item.name, ""))
    if len(summary.classes) > 1:
        cells = [_cell(summary.overall[metric], metric) for metric in shown]
        missed = sum(item.n_missed for item in summary.classes.values())
        extra = sum(item.n_false_positive for item in summary.classes.values())
        dice = summary.overall["Dice"]
        rows.append(("all structures", *cells, f"{dice.n_used} of {dice.n_total}", str(missed), str(extra)))
        swatches.append("")
    return Table(
        caption="Result per structure, mean over cases",
        columns=("Structure", *(headings[metric] for metric in shown), "n", "Missed", "False\nalarms"),
        rows=tuple(rows),
        swatches=tuple(swatches),
        note="n: cases that count, of all; a structure absent from both masks does not count. Missed: in the reference "
        "only. False alarms: in the prediction only; both count as Dice 0 and have no distance. CI: confidence "
        f"interval of the mean. Scored by the convention '{summary.convention.name}': "
        f"{summary.convention.description}.",
    )


def _has(summary: SummaryRead, metric: str) -> bool:
    return metric in summary.overall and all(metric in item.metrics for item in summary.classes.values())


def _tolerance(summary: SummaryRead) -> str:
    widths = sorted(set((summary.tolerance_mm or {}).values()))
    return f", {' / '.join(f'{width:g}' for width in widths)} mm" if widths else ""


def _cell(value: StatisticRead, metric: str) -> str:
    return percent_signed(value.mean) if metric == "RelativeVolumeError" else _with_interval(value, metric)


def percent_signed(share: float | None) -> str:
    """A relative error in percent with its sign."""
    return signed(None if share is None else 100 * share, 0)


def _with_interval(value: StatisticRead, metric: str, *, between: str = "\n") -> str:
    """The mean and its interval, in one precision."""
    if value.mean is None:
        return DASH
    numbers = (value.mean, *(value.ci95 or ()))
    if metric == "VolumeError":
        mean, *ends = (signed(number, volume_digits(numbers)) for number in numbers)
    elif metric == "HD95":
        mean, *ends = (f"{number:.{distance_digits(numbers)}f}" for number in numbers)
    else:
        mean, *ends = map(ratio, numbers)
    return f"{mean}{between}({' to '.join(ends)})" if ends else mean


def _used(item: ClassRead) -> str:
    dice = item.metrics["Dice"]
    return f"{dice.n_used} of {dice.n_total}"


def _absences(summary: SummaryRead) -> list[Text]:
    missed = [
        f"{_words(item.name)} ({item.n_missed} of {count(item.n_units, 'case')})"
        for item in summary.classes.values()
        if item.n_missed
    ]
    if not missed:
        return []
    if all(
        item.n_used == 0 or item.mean == 0 for item in (entry.metrics["Dice"] for entry in summary.classes.values())
    ):
        return [Text(text="The model finds nothing of any structure: it has not learned yet.", tone="warning")]
    text = f"Missed altogether: {listed(missed, limit=16)}."
    if "HD95" in summary.overall:
        text += " Such a case counts as Dice 0 but has no distance: HD95 alone looks better than it is."
    return [Text(text=text, tone="warning")]


def _box_plot(summary: SummaryRead, colours: Mapping[str, str], *, metric: str, axis: str, caption: str) -> Picture:
    keys = list(summary.classes)
    names = [summary.classes[key].name for key in keys]
    values = [_values(summary.metric_per_case, key, metric) for key in keys]
    figure = new_figure(5.4, 1.5 + 0.42 * len(keys))
    axes = figure.subplots()
    for place, (name, numbers) in enumerate(zip(names, values, strict=True)):
        colour = colours.get(name, INK)
        if len(numbers) >= _ENOUGH_FOR_A_BOX:
            axes.boxplot(
                [numbers],
                positions=[place],
                orientation="horizontal",
                widths=0.62,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": "#F2F2F2", "edgecolor": colour, "linewidth": 1.3},
                medianprops={"color": INK, "linewidth": 2},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
        elif numbers:
            axes.plot([float(np.median(numbers))] * 2, [place - 0.3, place + 0.3], color=INK, linewidth=2)
        offsets = place + _spread(len(numbers))
        axes.scatter(numbers, offsets, s=16, color=colour, edgecolor="white", linewidth=0.4, zorder=3)
    axes.set_yticks(range(len(names)), [f"{_words(name)} (n={len(v)})" for name, v in zip(names, values, strict=True)])
    axes.set_ylim(len(names) - 0.5, -0.5)
    highest = max((max(numbers) for numbers in values if numbers), default=1.0)
    axes.set_xlim((-0.02, 1.02) if metric == "Dice" else (-0.03 * highest, 1.05 * max(highest, 1.0)))
    plain_axes(axes, x=axis)
    sizes = [len(numbers) for numbers in values if numbers]
    legend = "One dot per case; the thick line is the median"
    if max(sizes, default=0) >= _ENOUGH_FOR_A_BOX:
        legend += ", the box holds the middle half of the cases"
        legend += "." if min(sizes) >= _ENOUGH_FOR_A_BOX else f" (drawn from {_ENOUGH_FOR_A_BOX} cases on)."
    else:
        legend += "."
    return Picture(
        name=f"cases-{metric.lower()}",
        png=png_of(figure),
        alt=f"{caption}, one row per structure. "
        + " ".join(_in_words(name, numbers, metric) for name, numbers in zip(names, values, strict=True)),
        caption=f"{caption}. {legend}",
        half=True,
    )


def _spread(number: int) -> np.ndarray:
    """Small offsets that keep dots apart, the same every time."""
    return 0.2 * (((np.arange(number) * 0.618034) % 1) - 0.5) * 2 if number > 1 else np.zeros(number)


def _values(units: Sequence[UnitRead], key: str, metric: str) -> list[float]:
    return [value for unit in units if (value := unit.value(key, metric)) is not None]


def _in_words(name: str, numbers: Sequence[float], metric: str) -> str:
    if not numbers:
        return f"{_words(name)}: no value."
    write = ratio if metric == "Dice" else millimetres
    return f"{_words(name)}: median {write(float(np.median(numbers)))}, {write(min(numbers))} to {write(max(numbers))}."


def case_table(summary: SummaryRead) -> Table:
    """Dice of every case, from the worst to the best."""
    units = sorted(summary.metric_per_case, key=lambda unit: (_order(unit), unit.case))
    keys = list(summary.classes)
    rows = tuple(
        (_unit_name(unit), ratio(unit.mean("Dice")), *(_case_cell(unit, key) for key in keys))
        for unit in units[:_MAX_CASE_ROWS]
    )
    left_out = len(units) - len(rows)
    note = "From the worst to the best. An absent structure (in neither mask) is shown as a dash."
    if left_out:
        note += f" The {left_out} best are left out here; summary.json has them all."
    return Table(
        caption="Dice of every case",
        columns=("Case", "mean", *(_words(summary.classes[key].name) for key in keys)),
        rows=rows,
        note=note,
    )


def _case_cell(unit: UnitRead, key: str) -> str:
    presence = unit.metrics.get(key, {}).get("presence")
    word = {"missed": "missed", "false_positive": "false alarm"}.get(str(presence))
    return word or ratio(unit.value(key, "Dice"))


def _order(unit: UnitRead) -> float:
    mean = unit.mean("Dice")
    return 2.0 if mean is None else mean


def _unit_name(unit: UnitRead) -> str:
    return unit.case if unit.slice is None else f"{unit.case}, slice {unit.slice}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _corrected(way: str) -> str:
    """'point + 5 clicks' in a reader's words."""
    return way.replace("point", "one click inside it").replace(" clicks", " on what is wrong")


def ways_table(prompting: PromptingRead) -> Table:
    """How well each way of asking does, on instances (one structure on one slice, of 3D models on one scan)."""
    given = {
        "box": "a box around it",
        "point": "one click inside it",
        "text": "its name",
        "none": "nothing",
        "ellipse": "an ellipse in the box\n(no network)",
        "ellipsoid": "an ellipsoid in the box\n(no network)",
    }
    classes = list(dict.fromkeys(name for item in prompting.ways for name in item.dice_per_class))
    rows = [(_words(name), *(ratio(item.dice_per_class.get(name)) for item in prompting.ways)) for name in classes]
    volumes = any(item.way == "ellipsoid" for item in prompting.ways)
    where, shape = ("scan", "ellipsoid") if volumes else ("slice", "ellipse")
    number = max((item.num_instances for item in prompting.ways), default=0)
    return Table(
        caption="What the model was given, and the Dice of its answer",
        columns=("Structure", *(given.get(item.way) or _corrected(item.way) for item in prompting.ways)),
        rows=(*rows, ("mean over instances", *(ratio(item.mean_dice) for item in prompting.ways))),
        note=f"Over {count(number, 'instance')}: one structure on one {where}. Boxes and clicks were made from the "
        f"reference outline. The {shape} says what a box tells by itself: a model below it has added nothing.",
    )
