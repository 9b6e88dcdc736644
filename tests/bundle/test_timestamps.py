"""Times in every unit that people write."""

import pytest

from bundle.timestamps import ISO, read_time, unix_seconds

AT = 1_636_993_862.0


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1_636_993_862, "seconds"),
        ("1636993862", "seconds"),
        (1_636_993_862_000, "milliseconds"),
        ("1636993862000", "milliseconds"),
        (1.636993862e15, "microseconds"),
        (1_636_993_862_000_000_000, "nanoseconds"),
        ("2021-11-15T16:31:02Z", ISO),
        ("2021-11-15T17:31:02+01:00", ISO),
        ("2021-11-15 16:31:02", ISO),
    ],
)
def test_a_time_is_the_same_in_every_unit(value: object, unit: str) -> None:
    assert read_time(value) == (AT, unit, value != "2021-11-15 16:31:02")


def test_what_lies_before_1970_has_a_unit_too() -> None:
    assert unix_seconds(-1e9) == unix_seconds(-1e12) == -1e9
    assert read_time("1960-01-01T00:00:00Z").seconds == -315_619_200


@pytest.mark.parametrize(
    "value", ["yesterday", "", True, None, [1], float("nan"), float("inf"), 1e25, 10**400]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="time"):
        read_time(value)
