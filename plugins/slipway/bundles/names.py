"""Which names a bundle's files may have: those that every file system and object store keeps apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from slipway.bundles.wording import shown
from slipway.errors import UserError

__all__ = ["check_distinct", "clean_name"]

_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_MAX_PART_BYTES = 255  # of ext4, XFS, NTFS and APFS
_MAX_PATH_BYTES = 900  # S3 allows keys of 1,024 bytes, and the store's own prefix needs some
_LINE_SEPARATORS = {"\u2028", "\u2029"}
_BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def clean_name(name: str) -> str:
    """Return an archive member's name as a relative path in Unicode form NFC, without a final slash.

    :raises UserError: if the name is absolute, leads outside, or is one that not every system can store.
    """
    path = unicodedata.normalize("NFC", name)
    if "\\" in path:
        raise UserError(f"File {shown(name)} has a backslash in its name: zip the bundle with '/' between folders.")
    if any(_unprintable(char) for char in path):
        raise UserError(f"File {shown(name)} has a control character in its name: rename it and zip again.")
    if path.startswith("/") or _DRIVE.match(path):
        raise UserError(
            f"File {shown(name)} has an absolute path: names in a bundle must be relative, "
            "so zip the folder from inside its parent."
        )
    parts = path.removesuffix("/").split("/")
    if ".." in parts:
        raise UserError(
            f"File {shown(name)} leads outside the bundle by '..': zip the folder itself, without paths through "
            "parents."
        )
    parts = [part for part in parts if part != "."]
    if not parts or "" in parts:
        raise UserError(f"File {shown(name)} has an empty part in its path: zip the bundle again with plain names.")
    for part in parts:
        _check_part(name, part)
    path = "/".join(parts)
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise UserError(f"File {shown(name)} has a path over {_MAX_PATH_BYTES} bytes: shorten its folders' names.")
    return path


def _check_part(name: str, part: str) -> None:
    if _DEVICE.match(part):
        raise UserError(
            f"File {shown(name)} has the name of a Windows device, which not every system can store: rename it."
        )
    if part.endswith((".", " ")):
        raise UserError(f"File {shown(name)} has a name ending in a dot or space, which Windows drops: rename it.")
    if len(part.encode()) > _MAX_PART_BYTES:
        raise UserError(f"File {shown(name)} has a name over {_MAX_PART_BYTES} bytes: shorten it.")


def _unprintable(char: str) -> bool:
    return (
        unicodedata.category(char) in {"Cc", "Cs"}
        or char in _LINE_SEPARATORS
        or unicodedata.bidirectional(char) in _BIDIRECTIONAL
    )


def check_distinct(files: Iterable[str], folders: Iterable[str]) -> None:
    """Check that no two paths are one and the same where case is ignored, and none is both file and folder.

    :param files: paths of files, as `clean_name` returns them.
    :param folders: paths of the folders that the archive lists itself; those of the files are added here.
    :raises UserError: for the first pair that collides.
    """
    seen: dict[str, tuple[str, bool]] = {}

    def add(path: str, is_file: bool) -> None:
        other = seen.setdefault(_folded(path), (path, is_file))
        if other == (path, is_file):
            return
        if other[0] != path:
            raise UserError(
                f"Names {shown(other[0])} and {shown(path)} differ only in case, so not every system can keep both: "
                "rename one."
            )
        raise UserError(f"Name {shown(path)} stands for both a file and a folder: rename one.")

    for folder in folders:
        for parent in (*_parents(folder), folder):
            add(parent, is_file=False)
    listed: set[str] = set()
    for file in files:
        if file in listed:
            raise UserError(f"File {shown(file)} is in the archive twice: remove one of the two and zip again.")
        listed.add(file)
        for parent in _parents(file):
            add(parent, is_file=False)
        add(file, is_file=True)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
