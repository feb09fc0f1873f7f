"""What the engine's words mean: a registry's refusal, or something that may go well next time."""

from __future__ import annotations

import pytest

from slipway.hooks.docker_engine import _REFUSALS


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("received unexpected HTTP status: 403 Forbidden", True),
        ("error response (401)", True),
        ("failed to copy sha256:9be0aa53e401: unexpected EOF", False),
        ("failed to copy sha256:403 of 9: unexpected EOF", False),
        ("dial tcp 127.0.0.1:40144: connect: connection refused", False),
        ("dial tcp 127.0.0.1:403: i/o timeout", False),
    ],
)
def test_a_status_is_a_number_of_its_own(said: str, refused: bool) -> None:
    assert bool(_REFUSALS.search(said)) is refused
