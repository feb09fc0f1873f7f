"""Archives of all shapes: damaged ones give one kind of error, large ones need no memory."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.bundles.archive import read_members
from slipway.bundles.layout import normalise
from slipway.bundles.limits import Limits
from slipway.bundles.unpack import bundle_digest, inflate, unpack
from slipway.errors import UserError
from tests.bundles.corpus import GOOD
from tests.bundles.zips import Entry, entries_of, plain_zip, raw_zip

SMALL = Limits(files=50, directory_bytes=64 * 1024, ratio_floor_bytes=1024)


def read(data: bytes, limits: Limits = SMALL) -> dict[str, bytes]:
    """All files of an archive, by the way that the intake goes."""
    file = io.BytesIO(data)
    return {member.path: b"".join(inflate(file, member)) for member in read_members(file, limits)}


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_archives_are_taken_whole_or_refused(data: st.DataObject) -> None:
    whole = bytearray(plain_zip(GOOD) if data.draw(st.booleans()) else raw_zip(entries_of(GOOD)))
    kind = data.draw(st.sampled_from(["bytes", "cut", "insert", "swap"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if kind == "bytes":
        for _ in range(data.draw(st.integers(1, 8))):
            # Headers are where the lies are: half of the changes go to the archive's end.
            place = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(len(whole) - 400, len(whole) - 1)))
            whole[place] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del whole[at : at + data.draw(st.integers(1, 200))]
    elif kind == "insert":
        whole[at:at] = data.draw(st.binary(min_size=1, max_size=100))
    else:
        other = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + 20], whole[other : other + 20] = whole[other : other + 20], whole[at : at + 20]
    message = "."
    try:
        normalise(read(bytes(whole)))
    except UserError as error:
        message = str(error)
    assert message.endswith(".")
    assert "\n" not in message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UserError):
        read(data)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("ab", min_size=1, max_size=6), st.binary(max_size=2000), min_size=1), st.booleans())
def test_honest_archives_come_out_as_they_went_in(files: dict[str, bytes], packed: bool) -> None:
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    assert read(plain_zip(files, method=method), Limits()) == files


def test_zip64_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("big.bin", "w", force_zip64=True) as file:
        file.write(b"x" * 100)
    assert read(out.getvalue()) == {"big.bin": b"x" * 100}


def test_archive_written_as_a_stream_is_read() -> None:
    # A writer that cannot seek puts sizes behind the data.
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"text" * 100)
        archive.writestr("b.txt", b"more")
    assert read(bytes(pipe.data)) == {"a.txt": b"text" * 100, "b.txt": b"more"}


def test_long_list_of_files_is_not_read_into_memory() -> None:
    data = plain_zip({f"{number:0200}": b"" for number in range(400)})
    with pytest.raises(UserError, match="list of files takes more than 64 KiB"):
        read(data)


def test_data_behind_the_end_of_a_deflate_stream_are_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(b"text") + packer.flush()
    with pytest.raises(UserError, match="damaged"):
        read(raw_zip([Entry(name=b"a", data=b"text", packed=packed + b"hidden")]))


def test_digest_is_the_one_of_the_contract(tmp_path: Path) -> None:
    import hashlib

    file = io.BytesIO(plain_zip({"b": b"2", "a/c": b"1"}))
    records = unpack(file, {member.path: member for member in read_members(file, SMALL)}, tmp_path)
    lines = sorted(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in {"b": b"2", "a/c": b"1"}.items())
    assert bundle_digest(records) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (tmp_path / "a" / "c").read_bytes() == b"1"
