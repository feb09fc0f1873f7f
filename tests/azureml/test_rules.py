"""Traffic and ownership: pure rules."""

from __future__ import annotations

import time
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from hypothesis import given
from hypothesis import strategies as st

from slipway.azureml import names, ownership, traffic
from slipway.azureml.failures import explain, explained_operation
from slipway.errors import Unavailable, UserError

STEPS = st.lists(st.integers(1, 99), unique=True, max_size=5).map(lambda steps: (*sorted(steps), 100))


@given(STEPS)
def test_a_shift_moves_everything_in_rising_steps_that_azure_takes(steps: tuple[int, ...]) -> None:
    plan = traffic.Plan(steps=steps)
    shares, seen = {"old": 100}, []
    while shares.get("new") != 100:
        shares = traffic.shared(shares, "new", plan.after(shares.get("new", 0)))
        assert sum(shares.values()) == 100
        seen.append(shares["new"])
    assert tuple(seen) == steps
    assert shares == {"new": 100}


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 100), max_size=3))
def test_traffic_without_a_deployment_is_all_or_nothing(shares: dict[str, int]) -> None:
    left = traffic.without(shares, "a")
    assert "a" not in left
    assert sum(left.values()) in {0, 100}
    assert bool(left) == bool(set(shares) - {"a"})


def test_the_first_deployment_gets_everything_at_once() -> None:
    assert traffic.shared({}, "new", 10) == {"new": 100}


def deployment(run: str, second: int, *, claimed: bool = True) -> dict[str, Any]:
    until = str(int(time.time()) + (86400 if claimed else -600))
    tags = {names.RUN: run, names.CLAIMED_UNTIL: until}
    return {"tags": tags, "systemData": {"createdAt": f"2026-01-01T00:00:{second:02}Z"}}


@pytest.mark.parametrize(
    ("deployments", "shares", "free"),
    [
        ({}, {}, True),
        ({"old": deployment("a", 1)}, {"old": 100}, True),
        ({"old": deployment("a", 1), "other": deployment("b", 2)}, {"old": 100}, False),
        ({"old": deployment("a", 1), "other": deployment("b", 2, claimed=False)}, {"old": 100}, True),
        # What the live one has just replaced is nobody's candidate.
        ({"old": deployment("a", 1), "live": deployment("b", 2)}, {"live": 100}, True),
        # Another run is in the middle of its shift.
        ({"old": deployment("a", 1), "other": deployment("b", 2)}, {"old": 50, "other": 50}, False),
        # Our own shift is: the other one is what served before.
        ({"old": deployment("a", 1), "ours": deployment("me", 2)}, {"old": 50, "ours": 50}, True),
        # Both began at the same moment: the older goes on.
        ({"ours": deployment("me", 1), "other": deployment("b", 2)}, {}, True),
        ({"ours": deployment("me", 2), "other": deployment("b", 1)}, {}, False),
        # An earlier try of this run.
        ({"mine": deployment("me", 1)}, {}, True),
    ],
)
def test_who_may_deploy(deployments: dict[str, Any], shares: dict[str, int], free: bool) -> None:
    plan = {"endpoint": "churn", "deployment": "ours"}
    if free:
        ownership.check_free(deployments, shares, plan, "me")
    else:
        with pytest.raises(Unavailable, match="Another deploy of endpoint 'churn' is in the making"):
            ownership.check_free(deployments, shares, plan, "me")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("AADSTS90033: A transient error has occurred. Please try again.", Unavailable),
        ("AADSTS7000215: Invalid client secret provided.", UserError),
        ("AADSTS7000222: The provided client secret keys are expired.", UserError),
        ("AADSTS53003: Access has been blocked by Conditional Access policies.", UserError),
        ("AADSTS70021599: a code that only begins like one that is known", Unavailable),
    ],
)
def test_what_entra_may_say_otherwise_next_time_is_retried(text: str, kind: type[Exception]) -> None:
    assert type(explain(ClientAuthenticationError(text), "azureml_default")) is kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", Unavailable),
        ("Token request error: (invalid_request) Identity not found", UserError),
        ("Token request error: (too_many_requests) slow down", Unavailable),
    ],
)
def test_a_silent_metadata_endpoint_is_asked_again(said: str, kind: type[Exception]) -> None:
    text = f"ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint. {said}"
    assert type(explain(CredentialUnavailableError(text), "azureml_default")) is kind


def test_azures_own_failures_are_retried_and_a_users_are_not() -> None:
    assert isinstance(explained_operation("It", {"code": "InternalServerError", "message": "x"}, ""), Unavailable)
    error = explained_operation("It", {"code": "BadArgument", "message": "No\nsense."}, "a\nlast line\n")
    assert isinstance(error, UserError)
    assert str(error) == (
        "It failed at Azure with BadArgument (No sense): the container's last line is 'last line'; see the endpoint in "
        "AzureML's studio."
    )
