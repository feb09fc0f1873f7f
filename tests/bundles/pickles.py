"""Pickles that would do harm, made without loading any of them."""

from __future__ import annotations

import io
import os
import pickle
import zlib

import joblib
import numpy as np

from tests.bundles.zips import plain_zip


class _Command:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ('echo ran >> "$SLIPWAY_TEST_CANARY"',)


def command(protocol: int = 4) -> bytes:
    """A plain pickle."""
    return pickle.dumps({"weights": [1, 2, 3], "model": _Command()}, protocol=protocol)


def command_after_array() -> bytes:
    """A joblib file whose call stands behind the raw data of an array."""
    out = io.BytesIO()
    joblib.dump([np.arange(1000.0), np.eye(3), _Command()], out)
    return out.getvalue()


def command_compressed() -> bytes:
    """The same, compressed as joblib does it."""
    return zlib.compress(command_after_array(), 3)


def command_in_npz() -> bytes:
    """A zip of arrays, one of them of objects."""
    array = np.empty(1, dtype=object)
    array[0] = _Command()
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return plain_zip({"a.npy": out.getvalue()})


def by_attribute() -> bytes:
    """`os.system` as an attribute of an innocent module."""
    return b"\x80\x04" + _text("logging") + _text("os.system") + b"\x93" + _text("true") + b"\x85R."


def computed_name() -> bytes:
    """A module name that only the running pickle knows: `codecs.decode(b"os")`."""
    decoded = _text("_codecs") + _text("decode") + b"\x93" + b"C\x02os\x85R"
    return b"\x80\x04" + decoded + _text("system") + b"\x93" + _text("true") + b"\x85R."


def in_array_data() -> bytes:
    """A joblib file whose array data are operations to `pickle.load`, which does not know of them."""
    out = io.BytesIO()
    joblib.dump(np.frombuffer(b"cos\nsystem\n(S'true'\ntR." + bytes(16), dtype="u1"), out)
    data = out.getvalue()
    payload = data.index(b"cos\nsystem")
    padding = data.rindex(b"b", 0, payload) + 1  # the wrapper's BUILD, then one byte of padding length, then padding
    return data[:padding] + b"cos\nsystem\n(S'true'\ntR." + data[payload + 24 :] + bytes(99)


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()
