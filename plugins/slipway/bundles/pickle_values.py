"""What the walk of a pickle knows of the values in it: only what can become a global's name or an array's size."""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "MAX_TEXT",
    "NO_TEXT",
    "UNKNOWN",
    "ArrayWrapper",
    "DictValue",
    "DtypeValue",
    "Global",
    "Memo",
    "dtype_from",
    "dtype_state",
]

MAX_TEXT = 128  # characters; no module and no attribute that matters has a longer name
_MAX_STRINGS = 4_000_000  # 32 MB of offsets
_MAX_STRING_BYTES = 64 * 1024**2
_MAX_OBJECTS = 200_000
_MAX_KEYS = 16


class _Opaque(enum.Enum):
    UNKNOWN = "may be a string"
    NO_TEXT = "is no string"


UNKNOWN = _Opaque.UNKNOWN
NO_TEXT = _Opaque.NO_TEXT


@dataclass(frozen=True, slots=True, order=True)
class Global:
    """A name that loading the pickle looks up: `module` and the attribute in it, which may have dots."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class DtypeValue:
    """A numpy dtype: bytes of one item, and whether items are Python objects. None: not known."""

    itemsize: int | None
    has_objects: bool | None


@dataclass(slots=True, eq=False)
class DictValue:
    """The first few string keys of a dict."""

    items: dict[str, Any] = field(default_factory=dict)

    def put(self, key: Any, value: Any) -> None:
        """Keep one item, if it may matter."""
        if isinstance(key, str) and (key in self.items or len(self.items) < _MAX_KEYS):
            self.items[key] = value


@dataclass(slots=True, eq=False)
class ArrayWrapper:
    """joblib's stand-in for an array whose bytes follow in the file, outside the pickle's own operations."""

    state: dict[str, Any] = field(default_factory=dict)

    def raw_bytes(self) -> int | None:
        """Return the number of bytes of the array's items; None if it is not known."""
        dtype, shape = self.state.get("dtype"), self.state.get("shape")
        if not isinstance(dtype, DtypeValue) or dtype.itemsize is None or not isinstance(shape, tuple):
            return None
        count = 1
        for length in shape:
            if not isinstance(length, int) or length < 0:
                return None
            count *= length
        return count * dtype.itemsize


def dtype_from(arguments: Any) -> Any:
    """Return the dtype that `numpy.dtype(*arguments)` makes, as a pickle writes it: `('f8', False, True)`."""
    if not isinstance(arguments, tuple) or not arguments or not isinstance(arguments[0], str):
        return UNKNOWN
    kind, digits = arguments[0][:1], arguments[0][1:]
    if not digits.isdecimal() or len(digits) > 12:
        return UNKNOWN
    width = int(digits) * (4 if kind == "U" else 1)
    # Structures and raw bytes say in their state, which follows, whether they hold objects.
    return DtypeValue(width, None if kind == "V" else kind == "O")


def dtype_state(dtype: DtypeValue, state: Any) -> None:
    """Take over what a dtype's state says: (version, order, subarray, names, fields, itemsize, alignment, flags)."""
    if isinstance(state, tuple) and len(state) >= 8 and isinstance(state[5], int) and isinstance(state[7], int):
        if state[5] >= 0:
            dtype.itemsize = state[5]
        # NPY_ITEM_REFCOUNT and NPY_ITEM_IS_POINTER, numpy/ndarraytypes.h
        dtype.has_objects = bool(state[7] & 0x05) if state[7] >= 0 else dtype.has_objects
    if dtype.has_objects is None:
        dtype.itemsize = None


class Memo:
    """The pickle's memo, in little memory: strings stand in one buffer, values that do not matter are not kept.

    A forgotten value reads as UNKNOWN, which the walk treats as the worst case. Which indices are taken is known
    exactly, because MEMOIZE counts them.
    """

    def __init__(self, below: Memo | None = None) -> None:
        """:param below: a memo whose entries are seen here, while new ones stay here."""
        self._below = below
        self._base: int = below._base + below._dense if below else 0
        self._dense: int = 0  # indices base … base + dense - 1 are taken
        self._offsets = array("Q")  # of the first of those
        self._text = bytearray()
        self._others: dict[int, Any] = {}
        self._count = len(below) if below else 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: int) -> bool:
        return (
            self._base <= index < self._base + self._dense
            or index in self._others
            or (self._below is not None and index in self._below)
        )

    def put(self, index: int, value: Any) -> bool:
        """Remember `value` under `index`; False if there is no room for another."""
        if index not in self:
            self._count += 1
        self._others.pop(index, None)
        place = index - self._base
        if place == self._dense:
            self._dense += 1
            if place == len(self._offsets) < _MAX_STRINGS:
                self._offsets.append(0)
        inside = 0 <= place < self._dense
        if type(value) is str and 0 <= place < len(self._offsets) and len(self._text) < _MAX_STRING_BYTES:
            data = value.encode("utf-8", "surrogatepass")
            self._offsets[place] = len(self._text) << 10 | len(data) << 1 | 1
            self._text += data
            return True
        if 0 <= place < len(self._offsets):
            self._offsets[place] = 0
        if not inside or (value is not UNKNOWN and value is not NO_TEXT and len(self._others) < _MAX_OBJECTS):
            self._others[index] = value
        return len(self._others) <= _MAX_OBJECTS

    def get(self, index: int) -> Any:
        """Return what stands under `index`, UNKNOWN if it was not kept.

        :raises KeyError: if nothing was ever put there.
        """
        if index in self._others:
            return self._others[index]
        place = index - self._base
        if not 0 <= place < self._dense:
            if self._below is None:
                raise KeyError(index)
            return self._below.get(index)
        entry = self._offsets[place] if place < len(self._offsets) else 0
        if not entry:
            return UNKNOWN
        start, length = entry >> 10, entry >> 1 & 0x1FF
        return self._text[start : start + length].decode("utf-8", "surrogatepass")
