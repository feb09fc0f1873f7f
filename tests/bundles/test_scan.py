"""What the scanner sees in pickles of every form, and that it never takes one for another."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import pickletools
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from slipway.bundles.limits import Limits
from slipway.bundles.pickle_stream import PickleStream, UnreadablePickleError
from slipway.bundles.pickle_values import Global, Memo
from slipway.bundles.pickle_walk import Budget, PickleWalk
from slipway.bundles.scan import scan_files
from slipway.bundles.verdict import dangerous
from slipway.errors import UserError
from tests.bundles import pickles
from tests.bundles.zips import plain_zip

NOTHING: frozenset[str] = frozenset()


def walked(data: bytes) -> set[str]:
    """The globals of one pickle, which must be followed to its end."""
    found: set[Global] = set()
    stream = PickleStream(io.BytesIO(data))
    PickleWalk(stream, Budget(10**7), found).run()
    assert stream.exhausted
    return {str(name) for name in found}


def scanned(data: bytes, tmp_path: Path, name: str = "model.pkl", limits: Limits | None = None) -> list[str]:
    (tmp_path / name).write_bytes(data)
    return scan_files(tmp_path, [name], limits or Limits())


def fitted() -> list[Any]:
    features, labels = load_iris(return_X_y=True)
    return [
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=3)).fit(features, labels),
        RandomForestClassifier(5).fit(features, labels),
        TfidfVectorizer().fit(["a model of words", "and more words"]),
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_globals_are_those_that_unpickling_looks_up(protocol: int) -> None:
    value = [
        *fitted(),
        OrderedDict(a=1),
        {1, 2},
        frozenset({3}),
        ("x",) * 5,
        b"bytes",
        bytearray(b"y"),
        1 << 100,
        1.5,
        None,
    ]
    data = pickle.dumps(value, protocol=protocol)
    looked_up: set[str] = set()

    class Listening(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            looked_up.add(f"{module}.{name}")
            return super().find_class(module, name)

    Listening(io.BytesIO(data)).load()
    assert walked(data) == looked_up
    assert walked(pickletools.optimize(data)) == looked_up


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_joblib_files_are_followed_past_their_arrays(protocol: int) -> None:
    arrays = [
        np.zeros((3, 4)),
        np.asfortranarray(np.eye(3, dtype="f4")),
        np.zeros(0),
        np.array(1.0),
        np.array(["text", "more"]),
        np.array([b"raw"]),
        np.arange(3).astype("M8[s]"),
        np.zeros(3, dtype=[("a", "f8"), ("b", "i4", (2,))]),
        np.array(["x", OrderedDict()], dtype=object),
        np.arange(10) > 5,
        np.ones(2, dtype="c16"),
    ]
    out = io.BytesIO()
    joblib.dump([*arrays, *fitted(), pickles._Command()], out, protocol=protocol)
    found = walked(out.getvalue())
    assert "posix.system" in found
    assert "sklearn.ensemble._forest.RandomForestClassifier" in found


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["model.joblib", "model.pkl.z", "weights.bin"])
def test_compressed_pickles_are_scanned(pack: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    assert scanned(pack(pickle.dumps(OrderedDict(), protocol=2)), tmp_path, name) == ["collections.OrderedDict"]
    with pytest.raises(UserError, match=r"posix\.system"):
        scanned(pack(pickles.command_after_array()) + b"trailing bytes", tmp_path, name)


def test_old_joblib_compression_is_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="packed by lz4"):
        scanned(b"\x04\x22\x4d\x18" + bytes(20), tmp_path, "model.joblib")


def test_second_pickle_in_a_file_is_scanned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"posix\.system"):
        scanned(pickle.dumps(1) + pickles.command(), tmp_path)


def test_bytes_behind_a_pickle_are_no_offence(tmp_path: Path) -> None:
    # As in PyTorch's old format: pickles, then plain numbers.
    assert scanned(pickle.dumps(OrderedDict()) + os.urandom(1000), tmp_path, "model.pt") == ["collections.OrderedDict"]


def test_array_data_that_are_operations_to_plain_pickle_are_seen(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"os\.system"):
        scanned(pickles.in_array_data(), tmp_path, "model.joblib")


def test_array_data_inside_a_frame_are_refused() -> None:
    out = io.BytesIO()
    joblib.dump(np.zeros(3), out)
    data = bytearray(out.getvalue())
    at = data.index(b"\x95")
    data[at + 1 : at + 9] = (10**6).to_bytes(8, "little")
    with pytest.raises(UnreadablePickleError, match="middle of a frame"):
        walked(bytes(data))


@pytest.mark.parametrize("name", ["config.json", "weights.bin", "vocabulary.txt", "model.onnx", "data.csv"])
@pytest.mark.parametrize(
    "data",
    [b"", b"c", b"code\nx\n", b"(importlib\nreload\n", b"{}", b"a,b\n1,2\n", b"\x82\x01", b"\x80\x04", b"\x08\x07"],
)
def test_other_files_are_no_pickles(name: str, data: bytes, tmp_path: Path) -> None:
    assert scanned(data, tmp_path, name) == []


def test_random_files_are_no_pickles(tmp_path: Path) -> None:
    for seed in range(300):
        data = np.random.default_rng(seed).bytes(5000)
        assert scanned(data, tmp_path, "weights.bin") == []


def test_random_arrays_in_joblib_files_are_no_offence(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        out = io.BytesIO()
        joblib.dump([random.normal(size=50), random.integers(0, 255, 50, dtype="u1")], out)
        assert "numpy.dtype" in scanned(out.getvalue(), tmp_path, "model.joblib")


def test_deep_and_endless_pickles_are_refused(tmp_path: Path) -> None:
    limits = Limits(pickle_operations=2_000_000)
    with pytest.raises(UserError, match="piles up too many values"):
        scanned(b"\x80\x04" + b"(" * 1_000_000, tmp_path, limits=limits)
    with pytest.raises(UserError, match="piles up too many values"):
        scanned(b"\x80\x04" + b"N" * 1_000_000, tmp_path, limits=limits)
    with pytest.raises(UserError, match="too many operations"):
        scanned(b"\x80\x04" + b"N0" * 2_000_000, tmp_path, limits=limits)
    assert scanned(b"\x80\x04N" + b"\x85" * 1_000_000 + b".", tmp_path, limits=limits) == []


def test_dictionary_that_holds_itself_is_followed() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = (loop, [loop])
    assert walked(pickle.dumps(loop)) == set()


@pytest.mark.parametrize(
    ("name", "is_dangerous"),
    [
        (("os", "system"), True),
        (("posix", "system"), True),
        (("builtins", "eval"), True),
        (("__builtin__", "apply"), True),
        (("builtins", "__import__"), True),
        (("importlib", "import_module"), True),
        (("logging", "os.system"), True),
        (("numpy", "testing._private.utils.runstring"), True),
        (("commands", "getoutput"), True),
        (("anything", "Thing.__class__.__base__"), True),
        (("?", "system"), True),
        (("subprocess", "Popen"), True),
        (("joblib", "load"), True),
        (("collections", "OrderedDict"), False),
        (("numpy", "ndarray"), False),
        (("builtins", "set"), False),
        (("sklearn.linear_model._logistic", "LogisticRegression"), False),
        (("features", "Preparer.Inner"), False),
        (("copyreg", "_reconstructor"), False),
        (("copy_reg", "_reconstructor"), False),
        (("__builtin__", "object"), False),
        (("_codecs", "encode"), False),
    ],
)
def test_verdicts(name: tuple[str, str], is_dangerous: bool) -> None:
    assert bool(dangerous([Global(*name)], NOTHING)) is is_dangerous


def test_allowed_globals_are_taken(tmp_path: Path) -> None:
    data = pickle.dumps(FunctionTransformer(np.log1p))
    assert scanned(data, tmp_path)
    with pytest.raises(UserError):
        scanned(pickles.command(), tmp_path)
    assert "posix.system" in scanned(
        pickles.command(), tmp_path, limits=Limits(allowed_globals=frozenset({"posix.system"}))
    )
    assert "posix.system" in scanned(pickles.command(), tmp_path, limits=Limits(allowed_globals=frozenset({"posix.*"})))


@given(st.lists(st.tuples(st.integers(0, 40), st.one_of(st.text(max_size=3), st.integers()))))
def test_memo_counts_and_recalls_as_the_unpickler_does(puts: list[tuple[int, Any]]) -> None:
    memo, real = Memo(), {}
    for index, value in puts:
        assert memo.put(index, value)
        real[index] = value
    assert len(memo) == len(real)
    assert all(memo.get(index) == value for index, value in real.items())
    above = Memo(memo)
    for index, value in puts[::-1]:
        above.put(index + 3, value)
        real[index + 3] = value
    assert len(above) == len(real)
    assert all(above.get(index) == value for index, value in real.items())


@settings(max_examples=400, deadline=None)
@given(data=st.data())
@example(data=None)
def test_damaged_pickles_raise_one_kind_of_error(data: st.DataObject | None) -> None:
    whole = bytearray(pickles.command_after_array())
    if data is not None:
        for _ in range(data.draw(st.integers(1, 6))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadablePickleError):
        PickleWalk(PickleStream(io.BytesIO(bytes(whole))), Budget(10**6), set()).run()


def test_npz_of_numbers_is_taken_unread(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.arange(1000.0), b=np.array(["x"]))
    assert scanned(out.getvalue(), tmp_path, "arrays.npz") == []


def test_torch_file_is_scanned_inside(tmp_path: Path) -> None:
    data = plain_zip({"archive/data.pkl": pickle.dumps(OrderedDict(), protocol=2), "archive/data/0": os.urandom(100)})
    assert scanned(data, tmp_path, "model.pt") == ["collections.OrderedDict"]
