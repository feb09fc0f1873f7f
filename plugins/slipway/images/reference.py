"""Names of images: what is allowed, and what a reference is made of.

Source: https://github.com/distribution/reference (the grammar of references).
"""

from __future__ import annotations

import re

from slipway.errors import UserError

__all__ = [
    "check_platform",
    "check_reference",
    "check_repository",
    "default_repository",
    "registry_of",
    "repository_of",
]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REFERENCE = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_PLATFORM = re.compile(r"linux/[a-z0-9]+(?:/v[0-9]+)?")


def check_repository(name: str) -> str:
    """Return `name` if it can name a repository in every registry.

    :raises UserError: otherwise.
    """
    if not _REPOSITORY.fullmatch(name) or not 2 <= len(name) <= 200:
        raise UserError(
            f"Repository {name[:80]!r} is not allowed: use 2 to 200 lower-case letters and digits, single '.', '_', "
            "'-' or '/' between them, such as 'slipway/scoring', and leave the registry's host to its connection."
        )
    return name


def check_reference(image: str) -> str:
    """Return `image` if it is a reference such as `host:5000/team/churn:1` or `churn@sha256:…`.

    :raises UserError: otherwise.
    """
    if not _REFERENCE.fullmatch(image):
        raise UserError(
            f"Image {image[:120]!r} is not a reference to an image: give one such as 'python:3.11-slim-bookworm' or "
            "'registry.example.com/team/churn@sha256:…'."
        )
    return image


def check_platform(platform: str) -> str:
    """Return `platform` if it is one that images are made for, such as `linux/amd64`.

    :raises UserError: otherwise.
    """
    if not _PLATFORM.fullmatch(platform):
        raise UserError(f"Platform {platform[:80]!r} is not one: give 'linux/amd64' or 'linux/arm64'.")
    return platform


def default_repository(model: str | None) -> str:
    """Return the repository where the user names none: one for all environments, one for each included model."""
    if model is None:
        return "slipway/scoring"
    return check_repository("slipway/" + re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-"))


def registry_of(image: str) -> str | None:
    """Return the registry's host (and port) that a reference begins with, or None if it names none."""
    host, slash, _ = image.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else None


def repository_of(image: str) -> str:
    """Return a reference without its tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
