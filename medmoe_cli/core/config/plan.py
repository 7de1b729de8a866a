"""The plan: everything decided from the fingerprint, with the reason of each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from medmoe_cli.core.base.hashing import value_sha256
from medmoe_cli.core.config.sections import Section


class ChannelPlan(Section):
    """How one channel becomes the network's input, which lies in [0, 1] but for the last two.

    `ct`: clip to [low, high] of the dataset's foreground and scale to [0, 1];
    `percentile`: the same with each image's own 0.5 and 99.5 percentiles; `rgb`: divide by 255;
    `zscore` (3D methods): clip to [low, high] where given, then mean 0 and deviation 1 over the voxels above 0 of the
    whole resampled image; `none`: as it is.
    """

    name: str
    normalization: Literal["ct", "percentile", "rgb", "zscore", "none"]
    low: float | None = None
    high: float | None = None


class Plan(Section):
    """`plan.json`. Arrays are canonical: LPS directions, axes x, y, z.

    Attributes:
        slice_axis: canonical axis (0, 1, 2) along which 2D methods slice a volume.
        input_size: side of the square network input, of the cubic window of 3D methods.
        spacing_mm: target spacing x, y, z of 3D methods; None for 2D methods, which keep the in-plane grid.
        labels: name to value, background excluded, in value order; consecutive from 1.
        file_labels: name to the value in the dataset's own label maps, which masks are written with; equal to
            `labels` unless the dataset's values have gaps.
        class_prompts: text for each class name.
        mirror_axes: network axes ('horizontal', 'vertical'; 'x', 'y', 'z' of 3D methods) that may be mirrored.
        mirror_swaps: by mirrored axis, pairs of label values that change places in a mirrored image (left and right).
        context_slices: neighbouring slices on each side that a slice is shown with (2D methods; 0: the slice alone).
        shown: positions of the image's channels that the network sees, in its order; () for all of them.
        members: of a collection, each with the rules of its own images; what this plan says of slice axis and
            channels is then the largest member's.
        reasons: one line per value for `plan --explain`.
    """

    schema_version: int = 1
    dataset: str
    method: str
    preset: str
    dims: Literal[2, 3]
    slice_axis: int
    input_size: int
    spacing_mm: tuple[float, float, float] | None
    channels: tuple[ChannelPlan, ...]
    labels: dict[str, int]
    file_labels: dict[str, int] = Field(default_factory=dict)
    class_prompts: dict[str, str]
    binary: bool
    mirror_axes: tuple[str, ...]
    mirror_swaps: dict[str, tuple[tuple[int, int], ...]] = Field(default_factory=dict)
    context_slices: int = 0
    shown: tuple[int, ...] = ()
    batch_size: int
    num_experts: int
    fingerprint_sha256: str
    reasons: dict[str, str]
    members: tuple[MemberPlan, ...] = ()

    @property
    def preprocessing_key(self) -> str:
        """Hash of what preprocessing depends on; a change of anything else reuses preprocessed cases."""
        parts = self.model_dump(include={"dims", "slice_axis", "input_size", "spacing_mm", "channels", "labels"})
        return value_sha256(parts)[:16]

    @property
    def input_channels(self) -> int:
        """Channels of the network's input: those shown of the image, of every slice shown, first slice first."""
        return len(self.shown or self.channels) * (2 * self.context_slices + 1)

    @property
    def shown_positions(self) -> tuple[int, ...] | None:
        """Positions of the network's channels among the image's, of every slice shown; None where they are equal."""
        own = len(self.channels)
        if not self.shown or self.shown == tuple(range(own)):
            return None
        return tuple(place * own + channel for place in range(2 * self.context_slices + 1) for channel in self.shown)

    @property
    def file_values(self) -> dict[int, int]:
        """Value in `labels` to the value in the dataset's own label maps."""
        return {value: self.file_labels.get(name, value) for name, value in self.labels.items()}

    @property
    def file_names(self) -> dict[str, int]:
        """Name to the value in the dataset's own label maps, in which masks are written."""
        return {name: self.file_labels.get(name, value) for name, value in self.labels.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(sorted(self.labels, key=lambda name: self.labels[name]))

    def member(self, name: str) -> MemberPlan:
        """A collection's member of that name."""
        return next(one for one in self.members if one.dataset == name)

    def for_member(self, name: str) -> Plan:
        """The plan by which an image is shown to the network as this member's are; classes are the collection's."""
        own = self.member(name).plan
        rules = {key: getattr(own, key) for key in ("slice_axis", "channels", "shown", "fingerprint_sha256")}
        return self.model_copy(update={**rules, "members": (), "mirror_axes": self.mirror_axes})

    def for_case(self, case_id: str) -> Plan:
        """As `for_member`, of the member that a collection's case MEMBER/CASE belongs to; else this plan."""
        return self.for_member(case_id.partition("/")[0]) if self.members else self

    @property
    def channel_counts(self) -> frozenset[int]:
        """How many channels an image may have."""
        return frozenset(len(one.plan.channels) for one in self.members) or frozenset({len(self.channels)})

    def reference_values(self, case_id: str) -> dict[int, int]:
        """Values in the label file of a case to those in `labels`; a collection's case is called MEMBER/CASE."""
        if self.members:
            return self.member(case_id.partition("/")[0]).file_values(self.labels)
        return {file_value: value for value, file_value in self.file_values.items()}

    def known_values(self, case_id: str) -> tuple[int, ...]:
        """Values of the classes that are labelled in a case: all, or those of its member."""
        if self.members:
            return self.member(case_id.partition("/")[0]).known(self.labels)
        return tuple(sorted(self.labels.values()))


class MemberPlan(Section):
    """A collection's member.

    Attributes:
        dataset: its name.
        modality: as its dataset.json says; '' when it does not.
        dimensionality: of its images.
        num_cases: training cases.
        classes: its own classes to the collection's.
        weight: how often it is drawn, times what its size gives.
        selection_sha256: of the masks to train on; None for all there are.
        plan: its own plan: slice axis, intensities and its classes in its own numbers, by which it is preprocessed.
    """

    dataset: str
    modality: str = ""
    dimensionality: int
    num_cases: int
    classes: dict[str, str]
    weight: float = 1.0
    selection_sha256: str | None = None
    plan: Plan

    def values(self, labels: Mapping[str, int]) -> dict[int, int]:
        """The member's own label values, as preprocessed, to the collection's."""
        return {self.plan.labels[own]: labels[common] for own, common in self.classes.items()}

    def file_values(self, labels: Mapping[str, int]) -> dict[int, int]:
        """The values in the member's label files to the collection's; 0 for classes that it leaves out."""
        return {
            value: labels[self.classes[own]] if own in self.classes else 0
            for own, value in self.plan.file_names.items()
        }

    def known(self, labels: Mapping[str, int]) -> tuple[int, ...]:
        """The collection's values of the classes that the member labels, ascending."""
        return tuple(sorted({labels[common] for common in self.classes.values()}))


Plan.model_rebuild()
