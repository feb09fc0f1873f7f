"""Says which globals of a pickle are dangerous. The judge is picklescan; what it is asked is more than the plain name.

picklescan knows pairs of module and name. A pickle can reach the same object by other pairs: `logging` and
`os.system` (attributes may have dots from protocol 4 on), or Python 2's names, which the unpickler translates. So
every such reading of a global is put before it, and a few names that it does not list are added.
"""

from __future__ import annotations

import _compat_pickle
import io
import logging
import pickle
from collections.abc import Iterable, Iterator

from slipway.bundles.pickle_values import Global

__all__ = ["dangerous"]

# Modules that no model needs and that reach code, files, processes or the network; `picklescan` has most others.
_MODULES = {
    "_posixsubprocess", "_socket", "_thread", "_winapi", "antigravity", "atexit", "cloudpickle.cloudpickle_fast",
    "code", "codeop", "dill", "fcntl", "ftplib", "gc", "http", "imaplib", "importlib", "linecache", "marshal",
    "mmap", "multiprocessing", "nntplib", "poplib", "resource", "sched", "select", "shelve", "signal", "site",
    "smtplib", "socketserver", "sqlite3", "sysconfig", "tarfile", "telnetlib", "tempfile", "threading", "urllib",
    "xmlrpc", "zipapp", "zipfile", "zipimport",
}  # fmt: skip
_NAMES = {
    "builtins": {"__import__", "globals", "locals", "vars", "setattr", "delattr", "input", "help", "memoryview", "dir"},
    "codecs": {"open", "lookup", "register"},
    "copyreg": {"add_extension", "pickle"},
    "io": {"open", "open_code", "FileIO", "OpenWrapper"},
    "_io": {"open", "open_code"},
    "joblib": {"load"},
    "joblib.numpy_pickle": {"load", "read_array", "NDArrayWrapper", "ZNDArrayWrapper"},
    "numpy": {"load", "fromfile", "memmap", "save", "savetxt", "loadtxt", "genfromtxt"},
    "pandas": {"read_pickle"},
    "torch": {"load", "hub"},
    "types": {"CodeType", "FunctionType", "LambdaType", "ModuleType"},
    "functools": {"reduce"},
    "numpy._core.memmap": {"memmap"},
    "numpy.core.memmap": {"memmap"},
}
_log = logging.getLogger("picklescan")


def dangerous(names: Iterable[Global], allowed: frozenset[str]) -> list[Global]:
    """Return those of `names` that may run code, or touch files or the network, when a pickle is loaded; sorted.

    :param names: globals of a pickle; `?` stands for a module or name that the pickle computes while it is loaded.
    :param allowed: `module.name`, or `module.*`, of those to take all the same.
    """
    return [
        name for name in sorted(names) if not _is_allowed(name, allowed) and any(map(_is_dangerous, _readings(name)))
    ]


def _is_allowed(name: Global, allowed: frozenset[str]) -> bool:
    return str(name) in allowed or f"{name.module}.*" in allowed


def _readings(name: Global) -> Iterator[Global]:
    """Yield each pair of module and name under which `name` reaches what it reaches."""
    for module, attribute in _translated(name):
        yield Global(module, attribute)
        parts = attribute.split(".")
        for count in range(1, len(parts)):
            yield Global(".".join([module, *parts[:count]]), ".".join(parts[count:]))
            yield Global(parts[count - 1], ".".join(parts[count:]))


def _translated(name: Global) -> Iterator[tuple[str, str]]:
    pair = (name.module, name.name)
    yield pair
    if pair in _compat_pickle.NAME_MAPPING:
        yield _compat_pickle.NAME_MAPPING[pair]
    if name.module in _compat_pickle.IMPORT_MAPPING:
        yield _compat_pickle.IMPORT_MAPPING[name.module], name.name


def _is_dangerous(name: Global) -> bool:
    if "?" in {name.module, name.name}:
        return True
    if any(part.startswith("__") and part.endswith("__") for part in name.name.split(".")[:-1]):
        return True  # a way through an object's inner attributes to any other
    parents = name.module.split(".")
    if any(".".join(parents[:count]) in _MODULES for count in range(1, len(parents) + 1)):
        return True
    return name.name in _NAMES.get(name.module, ()) or _picklescan(name)


def _picklescan(name: Global) -> bool:
    """Ask picklescan, by a pickle that does nothing but refer to `name`; it is read, not loaded."""
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    pickled = b"\x80\x04" + _text(name.module) + _text(name.name) + pickle.STACK_GLOBAL + pickle.STOP
    before, _log.disabled = _log.disabled, True  # it would log each finding; we word it ourselves
    try:
        result = scan_pickle_bytes(io.BytesIO(pickled), "global")
    finally:
        _log.disabled = before
    return any(found.safety is SafetyLevel.Dangerous for found in result.globals)


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data
