"""Values that fit a signature and values that do not, column by column."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_spark.casting import cast

NO = "bad"


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1.5, None, float("nan")], "double", [1.5, np.nan, np.nan]),
        ([1, 2], "double", [1.0, 2.0]),
        (["1.5", " 2 ", "abc", None, "nan", ""], "double", [1.5, 2.0, NO, np.nan, np.nan, NO]),
        ([Decimal("1.50"), None], "double", [1.5, np.nan]),
        ([True, None], "double", [1.0, np.nan]),
        ([1e300, 1.0], "float", [NO, 1.0]),
        ([1.0, 1.5, None], "long", [1, NO, NO]),
        (["7", "7.5", "x"], "long", [7, NO, NO]),
        ([2**62, -(2**62)], "long", [2**62, -(2**62)]),
        ([2**31, 5], "integer", [NO, 5]),
        ([9.3e18, 1.0], "long", [NO, 1]),
        ([1, None], "integer", [1, NO]),
        ([True, False, None], "boolean", [True, False, NO]),
        (["true", " FALSE ", "yes"], "boolean", [True, False, NO]),
        (["a", None], "string", ["a", None]),
        (["2026-11-22", "soon", None], "datetime", [np.datetime64("2026-11-22"), NO, np.datetime64("NaT")]),
        ([date(2026, 11, 22)], "datetime", [np.datetime64("2026-11-22")]),
        ([datetime(2026, 11, 22, 1)], "datetime", [np.datetime64("2026-11-22T01")]),
        ([datetime(9999, 12, 31), datetime(1, 1, 1), datetime(1677, 9, 22), datetime(2262, 4, 11, 23, 47, 16, 854775)],
         "datetime", [NO, NO, np.datetime64("1677-09-22"), np.datetime64("2262-04-11T23:47:16.854775")]),
        ([datetime(1677, 9, 21, 0, 12, 43, 145224), datetime(2262, 4, 11, 23, 47, 16, 854776), None],
         "datetime", [NO, NO, np.datetime64("NaT")]),
        ([date(9999, 12, 31), date(2026, 11, 22)], "datetime", [NO, np.datetime64("2026-11-22")]),
        (["9999-12-31T00:00:00", "2026-11-22"], "datetime", [NO, np.datetime64("2026-11-22")]),
        ([2**53 + 1, None], "long", [2**53 + 1, NO]),
        ([f"{2**53 + 1}", "x", " +7 ", "7.0", "1e3", "", "1_000", "1e999999999", f"{2**63}", None],
         "long", [2**53 + 1, NO, 7, 7, 1000, NO, NO, NO, NO, NO]),
        ([Decimal(2**53 + 1), None, Decimal(7)], "long", [2**53 + 1, NO, 7]),
        ([Decimal("7.50"), Decimal("7.00"), Decimal(2**63)], "long", [NO, 7, NO]),
        (["0x10", "1_0", "inf", "-1.5e3"], "double", [NO, NO, np.inf, -1500.0]),
        ([None, None], "double", [np.nan, np.nan]),
    ],
)  # fmt: skip
def test_each_value_is_taken_or_its_row_rejected(values: list[Any], kind: str, expected: list[Any]) -> None:
    found, reasons = cast(pa.array(values), "x", kind)
    refused = [reason is not None for reason in reasons] if reasons is not None else [False] * len(values)
    assert refused == [isinstance(e, str) and e == NO for e in expected]
    for value, wanted, bad in zip(found, expected, refused, strict=True):
        if not bad:
            np.testing.assert_equal(value, wanted)
    if reasons is not None:
        assert all("Column 'x' is not" in reason for reason in reasons if reason is not None)


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1).map(float))))
def test_no_double_is_taken_for_another_whole_number(values: list[float | None]) -> None:
    found, reasons = cast(pa.array(values, pa.float64()), "x", "long")
    for position, value in enumerate(values):
        if reasons is None or reasons[position] is None:
            assert value is not None
            assert int(found[position]) == value


SPELLED = st.one_of(
    st.none(), st.text(max_size=4), st.integers().map(str), st.floats().map(str), st.decimals(allow_nan=False).map(str)
)


@pytest.mark.parametrize("kind", ["double", "float", "long", "integer", "datetime"])
@given(values=st.lists(SPELLED, min_size=1, max_size=6))
def test_a_value_does_not_depend_on_its_neighbours(kind: str, values: list[str | None]) -> None:
    together, reasons = cast(pa.array(values, pa.string()), "x", kind)
    for position, value in enumerate(values):
        alone, reason = cast(pa.array([value], pa.string()), "x", kind)
        assert (reason is None) == (reasons is None or reasons[position] is None)
        if reason is None:
            np.testing.assert_equal(together[position], alone[0])


@given(st.lists(st.text()))
def test_no_text_breaks_a_batch(values: list[str]) -> None:
    for kind in ("double", "long", "boolean", "datetime", "string"):
        found, _ = cast(pa.array(values, pa.string()), "x", kind)
        assert len(found) == len(values)
