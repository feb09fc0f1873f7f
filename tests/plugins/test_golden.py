from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.golden import first_difference

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_whatever_a_model_answers_equals_itself(value: Any) -> None:
    assert first_difference(value, value, 1e-6) is None


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ([0.1], [0.1 + 1e-9]),
        ([1.0], [1]),
        ([math.nan, None], [None, None]),
        ([{"label": "a", "score": 0.5}], [{"score": 0.5000001, "label": "a"}]),
    ],
)
def test_equal_within_the_tolerance(expected: Any, actual: Any) -> None:
    assert first_difference(expected, actual, 1e-6) is None


@pytest.mark.parametrize(
    ("expected", "actual", "where"),
    [
        ([1, 0], [1, 1], "predictions[1] is 1 and not 0"),
        (["b"], ["m"], "predictions[0] is 'm' and not 'b'"),
        ([0.1], [0.2], "predictions[0] is 0.2 and not 0.1"),
        ([1], [True], "predictions[0] is True and not 1"),
        ([1], [1.5], "predictions[0] is 1.5 and not 1"),
        ([1.0], [None], "predictions[0] is None and not 1.0"),
        ([1, 2], [1], "predictions is a list of 1 and not a list of 2"),
        ([{"a": 1}], [{"b": 1}], "predictions[0] is an object with ['b'] and not an object with ['a']"),
        ([1], {"error": 1}, "predictions is {'error': 1} and not a list of 1"),
    ],
)
def test_the_first_difference_is_named(expected: Any, actual: Any, where: str) -> None:
    assert first_difference(expected, actual, 1e-6) == where
