"""Maps every accepted spelling of the bundle layout to the one that the rest of Slipway knows.

The requirement's picture leaves open whether `code/` and `requirements.txt` stand in `model_bundle/` or beside it,
and zip tools add a folder around it or none. All of these are the same bundle, with the same digest:

    model_bundle/{artifacts,code,requirements.txt}      model_bundle/artifacts + code + requirements.txt
    {artifacts,code,requirements.txt}                   any one folder around one of these
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from slipway.bundles.wording import shown
from slipway.errors import UserError

__all__ = ["CODE_FILE", "REQUIREMENTS", "SAMPLES", "SPEC", "complete", "normalise"]

CODE_FILE = "code/custom_preprocess.py"
REQUIREMENTS = "requirements.txt"
SPEC = "bundle.yaml"
SAMPLES = ("sample_input.json", "sample_input.csv")

_ROOT = "model_bundle"
_FOLDERS = ("artifacts", "code")
_FILES = (REQUIREMENTS, SPEC, *SAMPLES)
# What operating systems, editors and Python leave in folders, and notes to people: nothing that a model reads.
_JUNK_FOLDERS = {
    "__MACOSX",
    "__pycache__",
    ".git",
    ".ipynb_checkpoints",
    ".idea",
    ".vscode",
    ".pytest_cache",
    ".mypy_cache",
}
_JUNK_FILES = {".DS_Store", "Thumbs.db", "desktop.ini", ".gitignore", ".gitkeep", ".gitattributes"}
_NOTE = re.compile(r"(readme|license|licence|notice|changelog|authors)(\.(md|txt|rst))?", re.IGNORECASE)


def normalise(paths: Iterable[str]) -> dict[str, str]:
    """Return the normalised path of each path that belongs to the bundle: `{path: normalised}`.

    :param paths: relative paths of the archive's files, as `names.clean_name` returns them.
    :raises UserError: if they are not one of the accepted layouts.
    """
    kept = [path for path in paths if not _is_junk(path)]
    if not kept:
        raise UserError("The archive holds no files: zip the folder that holds code/, artifacts/ and requirements.txt.")
    prefix = _wrapping_folder(kept)
    normalised: dict[str, str] = {}
    for path in kept:
        inner = path.removeprefix(prefix)
        if not _NOTE.fullmatch(inner.removeprefix(f"{_ROOT}/")):
            normalised[path] = inner
    _merge_root(normalised)
    for inner in normalised.values():
        _check_known(inner)
    _check_complete(set(normalised.values()))
    return normalised


def complete(folder: Path) -> None:
    """Make the folders of a normalised bundle that object stores and digests do not keep: an empty `artifacts/`."""
    if (folder / CODE_FILE).is_file():
        (folder / "artifacts").mkdir(exist_ok=True)


def _is_junk(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        not _JUNK_FOLDERS.isdisjoint(folders)
        or name in _JUNK_FILES
        or name.startswith("._")  # AppleDouble
        or name.endswith((".pyc", ".pyo"))
    )


def _wrapping_folder(paths: list[str]) -> str:
    """Return the one folder, with its slash, that all of `paths` stand in, if it is not part of the layout."""
    tops = {path.partition("/")[0] if "/" in path else "" for path in paths}
    if len(tops) != 1:
        return ""
    (top,) = tops
    return "" if not top or top == _ROOT or top in _FOLDERS else f"{top}/"


def _merge_root(normalised: dict[str, str]) -> None:
    """Lift what stands in `model_bundle/` beside what stands next to it."""
    inside = {path.split("/")[1] for path in normalised.values() if path.startswith(f"{_ROOT}/")}
    outside = {path.split("/")[0] for path in normalised.values() if not path.startswith(f"{_ROOT}/")}
    for part in sorted(inside & outside):
        raise UserError(
            f"The archive has {shown(part)} both inside {_ROOT}/ and beside it: keep one of the two, so that it is "
            "clear "
            "which counts."
        )
    for path, inner in normalised.items():
        normalised[path] = inner.removeprefix(f"{_ROOT}/")


def _check_known(path: str) -> None:
    top, slash, _ = path.partition("/")
    if slash and top in _FOLDERS:
        return
    if not slash and top in _FILES:
        return
    if not slash and top in _FOLDERS:
        raise UserError(
            f"{shown(top)} is a file, but the layout has a folder of that name: put its content into {top}/."
        )
    what = f"Folder {shown(top + '/')}" if slash else f"File {shown(top)}"
    raise UserError(
        f"{what} is not part of the bundle layout, which is code/, artifacts/, {', '.join(_FILES)}: "
        "move it into artifacts/ or code/, or leave it out."
    )


def _check_complete(paths: set[str]) -> None:
    if CODE_FILE not in paths:
        elsewhere = sorted(path for path in paths if path.endswith("custom_preprocess.py"))
        found = f", and {shown(elsewhere[0])} is not the place for it" if elsewhere else ""
        raise UserError(f"The bundle has no {CODE_FILE}{found}: put class CustomPreprocessor there.")
    if REQUIREMENTS not in paths:
        raise UserError(f"The bundle has no {REQUIREMENTS}: list there the packages that its code imports, one a line.")
    if all(sample in paths for sample in SAMPLES):
        raise UserError(f"The bundle has both {SAMPLES[0]} and {SAMPLES[1]}: keep one sample input.")
