"""Reads a bundle's requirements.txt: names and version ranges from the package index, nothing else.

pip would also take URLs, paths and options; they make an environment that depends on a machine or runs code of
unknown origin while it is made, so each is refused with its line.
"""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from slipway.bundles.layout import REQUIREMENTS
from slipway.bundles.wording import one_line, shown, size
from slipway.errors import UserError

__all__ = ["parse_requirements", "pins", "read_requirements"]

_COMMENT = re.compile(r"(^|\s)#.*$")
_URL = re.compile(r"^([a-z]+\+)?[a-z][a-z0-9+.-]*://|^git@", re.IGNORECASE)
_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def read_requirements(file: Path, max_bytes: int) -> list[Requirement]:
    """Return the requirements in `file`.

    :raises UserError: if it is not UTF-8 text, too long, or has a line that is not a plain requirement.
    """
    if file.stat().st_size > max_bytes:
        raise UserError(
            f"{REQUIREMENTS} is larger than {size(max_bytes)}: list only the packages that the code imports."
        )
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{REQUIREMENTS} is not UTF-8 text: save it as UTF-8 (PowerShell's '>' writes UTF-16)."
        ) from error
    return parse_requirements(text)


def parse_requirements(text: str) -> list[Requirement]:
    """Return the requirements of a requirements.txt, in its order.

    :raises UserError: for the first line that is not a plain requirement, with its number.
    """
    requirements = []
    pending, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        first = first if pending else number
        line = pending + raw
        if line.endswith("\\"):
            pending = line[:-1]
            continue
        pending = ""
        line = _COMMENT.sub("", line).strip()
        if line:
            requirements.append(_requirement(line, f"Line {first} of {REQUIREMENTS}, {shown(line)},"))
    if pending.strip():
        raise UserError(
            f"Line {first} of {REQUIREMENTS} ends in a backslash with nothing after it: remove the backslash."
        )
    return requirements


def pins(requirements: list[Requirement], lock: str) -> list[str]:
    """Return the user's direct requirements as the lock pins them: `["scikit-learn==1.9.1"]`, sorted.

    A requirement whose marker rules it out on the lock's platform is in no lock and so left out.
    """
    locked = {canonicalize_name(name): version for name, version in _LOCKED.findall(lock)}
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    return [f"{name}=={locked[name]}" for name in sorted(names & locked.keys())]


def _requirement(line: str, what: str) -> Requirement:
    if line.startswith("-"):
        if line.startswith(("-e", "--editable")):
            raise UserError(f"{what} is an editable install: put the code into code/ or name a published package.")
        raise UserError(f"{what} is an option for pip: list packages only, the index is the administrator's choice.")
    if _URL.match(line):
        raise UserError(f"{what} is a URL: name a published package and its version, such as 'scikit-learn==1.5.2'.")
    if " --" in line:
        raise UserError(f"{what} has an option for pip: list packages only, Slipway locks versions and hashes itself.")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        if line.startswith((".", "/", "~")) or re.fullmatch(r"\S*(/|\\)\S*|\S+\.(whl|zip|tar\.gz)", line):
            raise UserError(f"{what} is a path: put code into code/ or name a published package.") from error
        why = one_line(str(error).partition("\n")[0])
        raise UserError(
            f"{what} is not a requirement, {why}: write a name and a version range, such as 'numpy>=1.26'."
        ) from error
    if requirement.url:
        raise UserError(f"{what} is a URL: name a published package and its version, such as 'scikit-learn==1.5.2'.")
    if requirement.name.endswith((".whl", ".zip", ".tar.gz")):
        raise UserError(f"{what} is a path: put code into code/ or name a published package.")
    return requirement
