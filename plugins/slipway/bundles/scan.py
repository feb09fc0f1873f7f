"""Finds the pickles in a bundle's files, also inside zip, npy and compressed containers, and refuses dangerous ones.

Files are told apart by their content; a name such as `.pkl` only decides that a file which cannot be followed is
refused and not passed over. Nothing is ever unpickled.
"""

from __future__ import annotations

import bz2
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from slipway.bundles.archive import read_members
from slipway.bundles.limits import Limits
from slipway.bundles.pickle_stream import PickleStream, UnreadablePickleError
from slipway.bundles.pickle_values import Global
from slipway.bundles.pickle_walk import Budget, PickleWalk
from slipway.bundles.unpack import inflate
from slipway.bundles.verdict import dangerous
from slipway.bundles.wording import shown, size
from slipway.errors import UserError

__all__ = ["scan_files"]

_CHUNK = 1024**2
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".p", ".pk", ".pck", ".joblib", ".jbl", ".sav", ".dill", ".cpkl", ".cloudpickle"}
_PICKLE_HEADS = tuple(bytes([0x80, protocol]) for protocol in range(6))
_NPY_HEAD = b"\x93NUMPY"
_ZIP_HEAD = b"PK\x03\x04"
_LZ4_HEAD = b"\x04\x22\x4d\x18"
_MANY_OPERATIONS = 64  # no other kind of file gets so far as a pickle by chance


_Decompress = Callable[[BinaryIO], Iterator[bytes]]


def scan_files(root: Path, paths: Iterable[str], limits: Limits) -> list[str]:
    """Check every file of a bundle that may be a pickle or hold one.

    :param root: folder of the normalised bundle.
    :param paths: its files, relative to `root`.
    :returns: the globals that its pickles refer to, as `module.name`, sorted.
    :raises UserError: for a dangerous global, or a pickle that cannot be checked.
    """
    found: set[Global] = set()
    for path in paths:
        with (root / path).open("rb", buffering=0) as file:
            found |= _scan(file, path, limits, inside_zip=False)
    return sorted(map(str, found))


def _scan(file: BinaryIO, what: str, limits: Limits, *, inside_zip: bool) -> set[Global]:
    head = file.read(10)
    file.seek(0)
    if head.startswith(_ZIP_HEAD):
        if inside_zip:
            raise _nested(what)
        return _scan_zip(file, what, limits)
    if head.startswith(_NPY_HEAD):
        return _scan_npy(file, what, limits)
    decompress = _decompressor(head)
    if decompress is not None:
        return _scan_compressed(file, what, limits, decompress)
    if head.startswith(_LZ4_HEAD) and _is_called_pickle(what):
        raise UserError(
            f"Pickle {shown(what)} is packed by lz4 and cannot be checked: save it by joblib with compress=3 or "
            "without."
        )
    return _scan_pickles(file, what, limits, certain=False)


def _scan_pickles(file: BinaryIO, what: str, limits: Limits, *, certain: bool) -> set[Global]:
    """Walk the pickles that stand one after the other from the file's position on.

    :param certain: whether the first must be a pickle.
    """
    stream = PickleStream(file)
    budget = Budget(limits.pickle_operations)
    found: set[Global] = set()
    complete = 0
    begins = file.tell()
    head = file.read(2)
    file.seek(begins)
    expected = certain or _is_called_pickle(what)
    while not stream.exhausted:
        walk = PickleWalk(stream, budget, found, doubtful=not expected and (head not in _PICKLE_HEADS or complete > 0))
        try:
            walk.run()
        except UnreadablePickleError as error:
            _refuse_dangerous(found, what, limits)
            # What follows a whole pickle may be something else: PyTorch's old format ends in plain numbers.
            is_pickle = expected or (head in _PICKLE_HEADS and walk.operations >= _MANY_OPERATIONS)
            if budget.left < 0 or (not complete and is_pickle):
                raise UserError(
                    f"Pickle {shown(what)} cannot be checked because {error}: save the model again with pickle or "
                    "joblib, "
                    "without other formats around it."
                ) from error
            return found if complete else set()
        complete += 1
    _refuse_dangerous(found, what, limits)
    return found


def _refuse_dangerous(found: set[Global], what: str, limits: Limits) -> None:
    for name in dangerous(found, limits.allowed_globals)[:1]:
        if "?" in {name.module, name.name}:
            raise UserError(
                f"Pickle {shown(what)} computes the name of something that it imports, which hides what loading it "
                "would "
                "run: save the model again without that object."
            )
        raise UserError(
            f"Pickle {shown(what)} refers to {shown(str(name))}, which can run commands or reach files when it is "
            "loaded: "
            "save the model without it, and put code into code/."
        )


def _scan_npy(file: BinaryIO, what: str, limits: Limits) -> set[Global]:
    """An array of objects is a pickle behind a header (numpy.lib.format)."""
    version = file.read(8)[6:7]
    length = int.from_bytes(file.read(2 if version == b"\x01" else 4), "little")
    header = file.read(min(length, 64 * 1024))
    if len(header) < length:
        raise UserError(f"Array {shown(what)} has a broken header: save it again with numpy.save.")
    # 'O' stands for objects alone and inside a structure: [('a', '|O')].
    descr = header.partition(b"fortran_order")[0].partition(b"descr")[2]
    return _scan_pickles(file, what, limits, certain=True) if b"O" in descr else set()


def _scan_compressed(file: BinaryIO, what: str, limits: Limits, decompress: _Decompress) -> set[Global]:
    packed = file.seek(0, os.SEEK_END)
    file.seek(0)
    with _inflated(decompress(file), what, limits, packed) as plain:
        if plain.read(4) == _ZIP_HEAD:
            raise _nested(what)
        plain.seek(0)
        return _scan_pickles(plain, what, limits, certain=False)


def _scan_zip(file: BinaryIO, what: str, limits: Limits) -> set[Global]:
    """An .npz, a PyTorch or a Keras file: pickles and arrays in a zip."""
    try:
        members = read_members(file, limits)
    except UserError as error:
        raise UserError(f"Archive {shown(what)} inside the bundle is refused: {error}") from error
    found: set[Global] = set()
    for member in members:
        inner = f"{what}:{member.path}"
        pieces = inflate(file, member)
        try:
            first = next(pieces, b"")
            if first and _may_matter(first, inner):
                with _inflated(chain([first], pieces), inner, limits, member.packed) as plain:
                    found |= _scan(plain, inner, limits, inside_zip=True)
        finally:
            pieces.close()
    return found


def _may_matter(head: bytes, what: str) -> bool:
    return (
        head.startswith((*_PICKLE_HEADS, _ZIP_HEAD))
        or (head.startswith(_NPY_HEAD) and b"O" in head[:256].partition(b"fortran_order")[0])
        or _is_called_pickle(what)
        or _decompressor(head) is not None
    )


@contextmanager
def _inflated(pieces: Iterable[bytes], what: str, limits: Limits, packed: int) -> Iterator[BinaryIO]:
    """Give the data of `pieces`, as far as they are sound, as a file that can be read from any position.

    :raises UserError: if they are far larger than the `packed` bytes that they come from.
    """
    with tempfile.TemporaryFile(prefix="slipway-scan-") as plain:
        length = 0
        try:
            for piece in pieces:
                length += plain.write(piece)
                if length > limits.unpacked_bytes or (
                    length > limits.ratio_floor_bytes and length > limits.ratio * packed
                ):
                    raise UserError(
                        f"File {shown(what)} would unpack from {size(packed)} to over {size(length)}, the mark of a "
                        "zip bomb: "
                        "store it in a denser format."
                    )
        except (zlib.error, lzma.LZMAError, _BrokenError):
            pass  # a loader would get as far, so that much is checked
        plain.seek(0)
        yield plain


class _BrokenError(Exception):
    """Compressed data that cannot be read on."""


def _decompressor(head: bytes) -> _Decompress | None:
    """Return what undoes the compression that `head` is the beginning of: those that joblib writes."""
    if head.startswith(b"\x1f\x8b"):
        return lambda file: _unzlib(file, 16 + zlib.MAX_WBITS)
    if head[:1] == b"\x78" and len(head) > 2 and int.from_bytes(head[:2], "big") % 31 == 0:
        return lambda file: _unzlib(file, zlib.MAX_WBITS)
    if head.startswith(b"BZh"):
        return lambda file: _unpacked(file, bz2.BZ2Decompressor)
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return lambda file: _unpacked(file, lzma.LZMADecompressor)
    return None


def _unzlib(file: BinaryIO, window: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    while chunk := file.read(_CHUNK):
        while chunk:
            yield inflater.decompress(chunk, _CHUNK)
            chunk = inflater.unconsumed_tail
            if inflater.eof:
                chunk, inflater = inflater.unused_data, zlib.decompressobj(window)  # gzip files may follow each other
    yield inflater.flush()


def _unpacked(file: BinaryIO, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> Iterator[bytes]:
    unpacker = make()
    data = file.read(_CHUNK)
    while data or not (unpacker.needs_input or unpacker.eof):
        try:
            yield unpacker.decompress(data, _CHUNK)
        except OSError as error:  # of bz2
            raise _BrokenError from error
        data = b""
        if unpacker.eof:
            data, unpacker = unpacker.unused_data, make()
        if unpacker.needs_input and not data:
            data = file.read(_CHUNK)


def _is_called_pickle(what: str) -> bool:
    return PurePosixPath(what).suffix.lower() in _PICKLE_SUFFIXES


def _nested(what: str) -> UserError:
    return UserError(
        f"File {shown(what)} is an archive inside an archive inside the bundle, the mark of a zip bomb: unpack it "
        "into artifacts/."
    )
