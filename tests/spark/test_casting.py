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
    ],
)
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


@given(st.lists(st.text()))
def test_no_text_breaks_a_batch(values: list[str]) -> None:
    for kind in ("double", "long", "boolean", "datetime", "string"):
        found, _ = cast(pa.array(values, pa.string()), "x", kind)
        assert len(found) == len(values)
