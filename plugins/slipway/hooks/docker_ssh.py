"""What may go wrong on the way to a Docker Engine over ssh, which docker-py leaves as its ssh library's errors."""

from __future__ import annotations

from urllib.parse import urlsplit

from slipway.errors import UserError

__all__ = ["ssh_errors", "ssh_refusal"]

# An ssh server that is busy breaks off in the midst of an authentication: that passes.
_PASSING = ("timeout", "transport shut down")


def ssh_errors(address: str) -> tuple[type[Exception], ...]:
    """Return the kinds of errors to catch beside docker-py's own; none for an engine that is reached otherwise."""
    if not address.startswith("ssh:"):
        return ()
    from paramiko import SSHException

    return (SSHException,)


def ssh_refusal(error: Exception, address: str) -> UserError | None:
    """Return the error of a host that is not to be trusted, or does not trust us; None if another try may go well."""
    from paramiko import AuthenticationException, BadHostKeyException

    said = str(error)
    if isinstance(error, BadHostKeyException):
        return UserError(
            f"The host of {address} has another key than ~/.ssh/known_hosts names, so nothing was sent to it: find out "
            "whether it was set up anew, and correct that line of the Airflow worker's user."
        )
    if "not found in known_hosts" in said:
        where = urlsplit(address)
        port = f"-p {where.port} " if where.port else ""
        return UserError(
            f"The host of {address} is unknown, so nothing was sent to it: compare what `ssh-keyscan "
            f"{port}{where.hostname}` prints with the host's own key, and add it to ~/.ssh/known_hosts of the Airflow "
            "worker's user."
        )
    refused = isinstance(error, AuthenticationException) or "No authentication methods" in said
    if refused and not any(word in said.lower() for word in _PASSING):
        return UserError(
            f"The host of {address} takes no key of the Airflow worker's user ({said.rstrip('.')}): put a private key "
            "without a passphrase into its ~/.ssh, and the public one into ~/.ssh/authorized_keys there."
        )
    return None
