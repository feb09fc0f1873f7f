from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway import naming
from slipway.errors import UserError


@pytest.mark.parametrize("name", ["breast-cancer", "A", "x.y_z-1", "0day", "a" * 63])
def test_model_names_that_are_allowed(name: str) -> None:
    assert naming.check_model(name) == name


@pytest.mark.parametrize("name", ["", "a" * 64, "a/b", "a:b", "../etc", "ä", "-a", "a b", "a\n", None, 7])
def test_model_names_that_are_refused_in_one_sentence(name: object) -> None:
    with pytest.raises(UserError, match=r"^Model name .* is not allowed: use 1 to 63 .*\.$"):
        naming.check_model(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a_b", "a.b", "a" * 64, "a/../b", "a\n"])
def test_endpoint_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="Endpoint name"):
        naming.check_endpoint(name)


@pytest.mark.parametrize("alias", ["latest", "Latest", "v1", "V22", "", "1st", "a b"])
def test_aliases_that_mlflow_reserves_or_refuses(alias: str) -> None:
    with pytest.raises(UserError, match="Alias"):
        naming.check_alias(alias)


@given(st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=63))
def test_every_model_name_with_a_letter_has_a_default_endpoint_or_a_sentence(name: str) -> None:
    try:
        endpoint = naming.default_endpoint(name)
    except UserError:
        assert not any(c.isalnum() for c in name)
    else:
        assert naming.check_endpoint(endpoint) == endpoint


def test_the_deployment_is_named_by_version_and_spec_whatever_the_keys_order() -> None:
    one = naming.deployment_id("3", {"a": 1, "b": [1, 2]})
    assert one == naming.deployment_id("3", {"b": [1, 2], "a": 1})
    assert one.startswith("v3-")
    assert one != naming.deployment_id("3", {"a": 1, "b": [2, 1]})


def test_a_long_value_is_shortened_in_the_sentence() -> None:
    with pytest.raises(UserError) as failure:
        naming.check_model("x" * 10_000)
    assert len(str(failure.value)) < 300
