"""Reads a zip's directory and refuses whatever an honest archive of a model does not have.

Only the directory and the local headers are read here, in bounded memory; `unpack` enforces them on the data.
The format is PKWARE's APPNOTE 6.3.10; section numbers below are its.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

from slipway.bundles.limits import Limits
from slipway.bundles.names import check_distinct, clean_name
from slipway.bundles.wording import shown, size
from slipway.errors import UserError

__all__ = ["Member", "read_members"]

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # 4.3.7
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # 4.4.4: traditional, strong, masked directory
_PATCH = 0x0020
_UTF8 = 0x0800
_AES = 99
_SPECIAL_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_OTHER_FORMATS = (
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "RAR"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive: where its data stands and what the directory promises of it."""

    path: str  # clean, relative, NFC
    header: int  # offset of the local header
    start: int  # offset of the data
    packed: int  # bytes
    size: int  # bytes, unpacked
    crc: int
    method: int  # zipfile.ZIP_STORED or ZIP_DEFLATED


class _Bounded:
    """What `zipfile` sees of the archive: reads are bounded, so that a lying directory cannot fill the memory."""

    def __init__(self, file: BinaryIO, max_read: int) -> None:
        self._file = file
        self._max_read = max_read
        self.tell = file.tell

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(min(count, self._max_read + 1) if count >= 0 else self._max_read + 1)
        if len(data) > self._max_read:
            raise UserError(
                f"The archive's list of files takes more than {size(self._max_read)}, the mark of a zip bomb: "
                "put fewer files into the bundle."
            )
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise zipfile.BadZipFile("negative offset")
        return self._file.seek(offset, whence)

    def seekable(self) -> bool:
        return True


def read_members(file: BinaryIO, limits: Limits) -> list[Member]:
    """Return the files of the zip in `file`, in the order of their data, after every check of its headers.

    :param file: open for reading, seekable.
    :raises UserError: for anything that is not a plain, complete, honest zip within `limits`.
    """
    archive, names = _read_directory(file, limits)
    infos = archive.infolist()
    if not infos:
        raise UserError("The archive is empty: zip the folder that holds code/, artifacts/ and requirements.txt.")
    if len(infos) > limits.files:
        raise UserError(
            f"The archive holds {len(infos):,} files and folders, more than the {limits.files:,} that [slipway] "
            "max_files "
            "allows: pack many small files into one."
        )
    folders: list[str] = []
    members: list[Member] = []
    for info, name in zip(infos, names, strict=True):
        _check_kind(info, name)
        path = clean_name(name)
        if name.endswith("/"):
            if info.file_size:
                raise UserError(
                    f"Folder {shown(name)} holds data of its own: zip the bundle again with an ordinary tool."
                )
            folders.append(path)
            continue
        _check_promise(info, name, limits)
        start = _data_offset(file, info, name)
        members.append(
            Member(path, info.header_offset, start, info.compress_size, info.file_size, info.CRC, info.compress_type)
        )
    check_distinct([member.path for member in members], folders)
    _check_total(members, limits)
    members.sort(key=lambda member: member.start)
    _check_overlap(members, infos, archive.start_dir)
    return members


def _read_directory(file: BinaryIO, limits: Limits) -> tuple[zipfile.ZipFile, list[str]]:
    file.seek(0)
    head = file.read(8)
    if not head:
        raise UserError("The archive is an empty file: check that its upload is complete.")
    try:
        archive = zipfile.ZipFile(_Bounded(file, limits.directory_bytes))
        names = [_name(info) for info in archive.infolist()]
    except UnicodeError as error:
        raise UserError(
            "The archive has a file name that is not UTF-8: zip the bundle with a tool that writes UTF-8 names."
        ) from error
    except zipfile.BadZipFile as error:
        raise _not_a_zip(head) from error
    except (ValueError, OverflowError, NotImplementedError, EOFError, struct.error, RuntimeError) as error:
        raise UserError("The archive is damaged in its list of files: zip the bundle again.") from error
    if any("\0" in name for name in names):
        raise UserError("The archive has a file name with a zero byte in it: zip the bundle with plain names.")
    return archive, names


def _name(info: zipfile.ZipInfo) -> str:
    # `zipfile` takes a name without the UTF-8 flag for code page 437; most tools that leave it out write UTF-8.
    name: str = info.orig_filename
    return name if info.flag_bits & _UTF8 else name.encode("cp437").decode("utf-8")


def _not_a_zip(head: bytes) -> UserError:
    if head.startswith((b"PK\x03\x04", b"PK\x07\x08")):
        return UserError(
            "The archive is truncated or damaged, its list of files cannot be read: upload it again whole."
        )
    for magic, kind in _OTHER_FORMATS:
        if head.startswith(magic):
            return UserError(f"The file is a {kind} archive and not a zip: pack the bundle as a .zip.")
    return UserError("The file is not a zip archive: pack the bundle as a .zip.")


def _check_kind(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & _ENCRYPTED or info.compress_type == _AES:
        raise UserError(f"File {shown(name)} is encrypted: zip the bundle without a password.")
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode == stat.S_IFLNK:
        raise UserError(f"File {shown(name)} is a symbolic link: zip the bundle with the files themselves.")
    if mode in _SPECIAL_KINDS:
        raise UserError(
            f"File {shown(name)} is {_SPECIAL_KINDS[mode]}: a bundle holds ordinary files only, so leave it out."
        )
    if mode == stat.S_IFDIR and not name.endswith("/"):
        raise UserError(f"Name {shown(name)} is a folder by its mode and a file by its name: zip the bundle again.")
    if info.volume or info.flag_bits & _PATCH:
        raise UserError(f"File {shown(name)} is in another volume or a patch: zip the bundle into one plain archive.")


def _check_promise(info: zipfile.ZipInfo, name: str, limits: Limits) -> None:
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UserError(
            f"File {shown(name)} is packed by method {info.compress_type}: zip the bundle with 'deflate' or 'store', "
            "which every zip tool offers."
        )
    if info.file_size > limits.ratio_floor_bytes and info.file_size > limits.ratio * info.compress_size:
        raise UserError(
            f"File {shown(name)} would unpack from {size(info.compress_size)} to {size(info.file_size)}, over "
            f"{limits.ratio} times as much and so the mark of a zip bomb: store it in a denser format."
        )


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo, name: str) -> int:
    file.seek(max(info.header_offset, 0))
    header = file.read(_LOCAL_HEADER.size)
    if len(header) == _LOCAL_HEADER.size:
        signature, _, flags, method, _, _, _, packed, unpacked, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        local_name = file.read(name_length)
        encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
        honest = (
            signature == b"PK\x03\x04"
            and not flags & _ENCRYPTED
            and method == info.compress_type
            and local_name == info.orig_filename.encode(encoding)
            # Zero: follows the data (4.4.4 bit 3). All ones: is in the zip64 extra field (4.5.3).
            and packed in {info.compress_size, 0, 0xFFFFFFFF}
            and unpacked in {info.file_size, 0, 0xFFFFFFFF}
        )
        if honest:
            return int(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)
    raise UserError(
        f"File {shown(name)} has a header that contradicts the archive's list of files: the zip is damaged or forged, "
        "so pack it again."
    )


def _check_total(members: list[Member], limits: Limits) -> None:
    total = sum(member.size for member in members)
    if total > limits.unpacked_bytes:
        raise UserError(
            f"The archive would unpack to {size(total)}, more than the {size(limits.unpacked_bytes)} that [slipway] "
            "max_unpacked_bytes allows: leave out what the model does not need."
        )


def _check_overlap(members: list[Member], infos: list[zipfile.ZipInfo], directory: int) -> None:
    # Every header counts, folders' too: a bomb lets many entries share one piece of data.
    headers = sorted(info.header_offset for info in infos)
    following = dict(zip(headers, [*headers[1:], directory], strict=True))
    if len(following) < len(headers) or any(
        member.start + member.packed > following[member.header] for member in members
    ):
        raise _overlapping()


def _overlapping() -> UserError:
    return UserError("The archive has files that share the same data, the mark of a zip bomb: pack the bundle again.")
