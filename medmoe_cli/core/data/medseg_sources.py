"""The twelve datasets that SegMoTE's MedSeg-HQ is made of (section 3.6), and which datasets here are one of them.

A dataset is recognised by the words of its name, by the format it was converted from and by its modality; whatever
goes by another name is declared by hand. Where to get a release and who may use it is its format's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medmoe_cli.core.data.converters.registry import FORMATS
from medmoe_cli.core.data.dataset_file import modality_text

_ISIC_CLASSES = {"lesion": "skin_lesion"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperSource:
    """One of the twelve.

    Attributes:
        key: what it is declared as, and the name its convert command proposes.
        title: as the paper writes it.
        modality: CT, MR, X-ray or dermoscopy.
        format: of `medmoe convert`.
        subset: of that format; '' where it takes none.
        families: sets of words, one of which a dataset's name or source format must have whole.
        variants: one of these words too, in its name, channels, modality or description; none is asked for when empty.
        classes: names that mean little without the dataset, and what they are called in a collection.
    """

    key: str
    title: str
    modality: str
    format: str
    subset: str = ""
    families: tuple[frozenset[str], ...]
    variants: tuple[str, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """How to convert it."""
        subset = f" --subset {self.subset}" if self.subset else ""
        return f"medmoe convert RELEASE --format {self.format}{subset} --name {self.key}"

    @property
    def obtain(self) -> str:
        """Where a person gets it."""
        known = FORMATS.get(self.format)
        return known.obtain if known is not None else ""

    @property
    def licence(self) -> str:
        """Of the release, as its format says."""
        known = FORMATS.get(self.format)
        return known.licence if known is not None else ""


def _words(*families: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(family.split()) for family in families)


def _isic(year: int) -> PaperSource:
    return PaperSource(
        key=f"isic-{year}",
        title=f"ISIC{year}",
        modality="dermoscopy",
        format="isic",
        subset=str(year),
        families=_words("isic"),
        variants=(str(year),),
        classes=_ISIC_CLASSES,
    )


PAPER_SOURCES = (
    PaperSource(
        key="chaos-t1",
        title="CHAOS (T1)",
        modality="MR",
        format="chaos",
        subset="t1",
        families=_words("chaos"),
        variants=("t1", "t1dual", "t1w", "in", "inphase"),
    ),
    PaperSource(
        key="chaos-t2",
        title="CHAOS (T2)",
        modality="MR",
        format="chaos",
        subset="t2",
        families=_words("chaos"),
        variants=("t2", "t2spir", "t2w", "spir"),
    ),
    _isic(2016),
    _isic(2017),
    _isic(2018),
    PaperSource(key="btcv", title="BTCV", modality="CT", format="btcv", families=_words("btcv")),
    PaperSource(key="acdc", title="ACDC", modality="MR", format="acdc", families=_words("acdc")),
    PaperSource(
        key="amos-ct",
        title="AMOS (CT)",
        modality="CT",
        format="amos",
        subset="ct",
        families=_words("amos", "amos22"),
        variants=("ct",),
    ),
    PaperSource(
        key="amos-mr",
        title="AMOS (MRI)",
        modality="MR",
        format="amos",
        subset="mr",
        families=_words("amos", "amos22"),
        variants=("mr", "mri"),
    ),
    PaperSource(key="word", title="WORD", modality="CT", format="word", families=_words("word")),
    PaperSource(
        key="totalsegmentator-ct",
        title="TotalSegmentator (CT)",
        modality="CT",
        format="totalsegmentator",
        families=_words("totalsegmentator", "totalseg"),
        variants=("ct",),
    ),
    PaperSource(
        key="sz-cxr",
        title="SZ-CXR",
        modality="X-ray",
        format="sz-cxr",
        families=_words("sz cxr", "szcxr", "shenzhen"),
    ),
)
BY_KEY = {source.key: source for source in PAPER_SOURCES}


def recognise_source(name: str, content: Mapping[str, Any]) -> PaperSource | None:
    """The paper's dataset that a dataset is; None when that is none, or not clear.

    Args:
        name: the dataset's.
        content: of its dataset.json.
    """
    origin = str(content.get("converted_by", "")).partition(" from ")[2]
    named = _tokens(name) | _tokens(origin)
    channels = content.get("channel_names") or {}
    told = [str(channel) for channel in (channels.values() if isinstance(channels, Mapping) else channels)]
    told.append(modality_text(content.get("modality", "")) or "")
    told += [str(content.get(key, "")) for key in ("reference", "description")]
    described = named | _tokens(" ".join(told))
    fitting = [
        source
        for source in PAPER_SOURCES
        if any(family <= named for family in source.families)
        and (not source.variants or described & set(source.variants))
    ]
    return fitting[0] if len(fitting) == 1 else None


def missing_sources(present: Sequence[PaperSource]) -> tuple[PaperSource, ...]:
    """Those of the twelve that are not there."""
    return tuple(source for source in PAPER_SOURCES if source not in present)


def _tokens(text: str) -> set[str]:
    """Words as they stand and their runs of letters and of digits: 'ISIC2018' is isic2018, isic and 2018."""
    whole = re.findall(r"[a-z0-9]+", text.lower())
    return {*whole, *(part for word in whole for part in re.findall(r"[a-z]+|\d+", word))}
