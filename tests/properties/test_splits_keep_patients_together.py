"""Whatever the patients: no fold separates one, every case is validated once, folds are even."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.data.splits import make_splits

PATIENTS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@settings(max_examples=80)
@given(owners=PATIENTS, num_folds=st.integers(2, 7))
def test_patients_stay_together(owners: list[int], num_folds: int) -> None:
    patients = {f"case_{number:03d}": f"patient_{owner}" for number, owner in enumerate(owners)}
    names = set(patients.values())
    folds = make_splits(patients, num_folds)
    if len(names) == 1:
        assert folds == ()
        return
    assert len(folds) == min(num_folds, len(names))
    validated: list[str] = []
    sizes = []
    for train, validation in folds:
        held_out = {patients[case] for case in validation}
        assert held_out
        assert held_out.isdisjoint(patients[case] for case in train)
        assert sorted((*train, *validation)) == sorted(patients)
        validated += validation
        sizes.append(len(held_out))
    assert sorted(validated) == sorted(patients)
    assert max(sizes) - min(sizes) <= 1
