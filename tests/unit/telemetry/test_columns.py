"""The list of columns fits the samples, and folds as it says."""

from dataclasses import fields

import pytest

from telemetry import columns
from telemetry.columns import Fold, fold, folded
from telemetry.samples import DeviceSample, HostSample, TaskSample

OF = {HostSample: columns.HOST, DeviceSample: columns.DEVICE, TaskSample: columns.TASK}


@pytest.mark.parametrize("sample", OF)
def test_every_column_has_its_field_and_its_name_once(sample: type) -> None:
    known = {field.name for field in fields(sample)}
    assert [c.name for c in OF[sample] if c.source not in known] == []
    names = [column.name for column in OF[sample]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("how", "value"),
    [
        (Fold.MEAN, 3.0),
        (Fold.MAX, 5),
        (Fold.MIN, 1),
        (Fold.COUNTER, 3),
        (Fold.MASK, 7),
    ],
)
def test_folds_leave_out_what_is_unknown(how: Fold, value: float) -> None:
    assert fold(how, [None, 1, 5, None, 3]) == value
    assert fold(how, [None, None]) is None
    assert fold(how, []) is None


def test_a_row_has_a_value_for_each_column_in_its_order() -> None:
    looks = [
        DeviceSample(uuid="GPU-a", taken_at_ms=at, utilization_percent=use, energy_joules=at * 1.0)
        for at, use in ((1, 10), (2, None), (3, 40))
    ]
    row = dict(zip((c.name for c in columns.DEVICE), folded(columns.DEVICE, looks), strict=True))
    assert (row["utilization_percent"], row["utilization_peak_percent"]) == (25, 40)
    assert row["energy_joules"] == 3
    assert row["power_watts"] is None
