"""Zips a model bundle the same way every time: `python zip_bundle.py FOLDER OUT.zip`.

`FOLDER` is a `model_bundle` folder, or a folder that holds one. Names are sorted, times and permissions
fixed, and nothing is compressed (the bytes that zlib writes differ from build to build, and models seldom
shrink), so equal files make an equal zip on every machine. Only Python's standard library is used: copy this
file wherever you train.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = "model_bundle"
OPTIONAL_FILES = ("bundle.yaml", "sample_input.json", "sample_input.csv")
# The earliest time that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)
REGULAR_FILE_0644 = 0o100644 << 16
UNIX = 3


class BundleError(Exception):
    """One sentence: what is wrong with the folder and what to do about it."""


def members(bundle: Path) -> Iterator[Path]:
    """The files that belong to a bundle, sorted by their path.

    Raises `BundleError` where the layout is not a bundle's. Hidden files and `__pycache__` are left out.
    """
    for required in ("artifacts", "code/custom_preprocess.py", "requirements.txt"):
        if not (bundle / required).exists():
            raise BundleError(f"{bundle} has no {required}: a bundle needs one, see the skeleton beside this script.")
    found = [bundle / "requirements.txt"]
    found += [bundle / name for name in OPTIONAL_FILES if (bundle / name).exists()]
    found += [path for part in ("artifacts", "code") for path in (bundle / part).rglob("*") if belongs(path, bundle)]
    yield from sorted(found, key=lambda path: path.relative_to(bundle).as_posix())


def belongs(path: Path, bundle: Path) -> bool:
    """Whether a file below `artifacts/` or `code/` goes into the zip; a symbolic link is refused."""
    if path.is_symlink():
        raise BundleError(f"{path} is a symbolic link: put the file itself in its place.")
    parts = path.relative_to(bundle).parts
    hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
    return path.is_file() and not hidden


def zip_bundle(folder: Path, out: Path) -> int:
    """Write `out` and return how many files it holds; `out` appears only when it is complete."""
    bundle = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    paths = list(members(bundle))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for path in paths:
                info = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(bundle).as_posix()}", EPOCH)
                info.create_system, info.external_attr = UNIX, REGULAR_FILE_0644
                info.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return len(paths)


def main(arguments: list[str]) -> int:
    """The command; answers 2 to wrong use and 1 to a folder that is no bundle."""
    if len(arguments) != 2:
        print("Use: python zip_bundle.py FOLDER OUT.zip", file=sys.stderr)
        return 2
    folder, out = map(Path, arguments)
    try:
        count = zip_bundle(folder, out)
    except (BundleError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {count} files, {out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
