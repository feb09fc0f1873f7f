"""Load a Slipway bundle as an MLflow python_function model.

This one file is copied next to every model that is made from a bundle (`loader_module: bundle_pyfunc`), so it needs
nothing of Slipway's, only the standard library, pandas and numpy. The scoring server uses the same file.

A bundle is a directory with `code/custom_preprocess.py`, which defines one class `CustomPreprocessor`, and
`artifacts/`. The prediction is ``postprocess(predict(preprocess(frame)))``; only `predict` must be there.

Two bundles may live in one process (Spark's Python workers do that) although both have a module of the same name:
each bundle keeps its own modules and puts them into `sys.modules` when it is its turn.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

MODULE = "custom_preprocess"
CLASS = "CustomPreprocessor"
METHODS = {"load": "artifacts", "preprocess": "frame", "predict": "frame", "postprocess": "result"}
"""Every method that a `CustomPreprocessor` may define, and the name of its one argument."""


class BundleError(Exception):
    """A mistake in the bundle: `code` for programs, one sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BundleModel:
    """What `mlflow.pyfunc` and the scoring server call.

    Args:
        bundle: the normalised bundle directory.

    Raises:
        BundleError: the bundle breaks a rule, or its code fails while it loads.
    """

    def __init__(self, bundle: Path) -> None:
        self._modules = _Modules(bundle / "code")
        self._instance = self._make(bundle)
        self.methods = [name for name in METHODS if callable(getattr(self._instance, name, None))]
        self._predict: Callable[..., Any] = self._instance.predict
        self._preprocess: Callable[[Any], Any] | None = getattr(self._instance, "preprocess", None)
        self._postprocess: Callable[[Any], Any] | None = getattr(self._instance, "postprocess", None)
        self._takes_params = "params" in inspect.signature(self._predict).parameters

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict for `model_input`, a DataFrame or what `pandas.DataFrame` makes one of."""
        self._modules.activate()
        frame = _as_frame(model_input)
        if self._preprocess is not None:
            frame = self._preprocess(frame)
        result = self._predict(frame, params=params) if self._takes_params else self._predict(frame)
        return result if self._postprocess is None else self._postprocess(result)

    def _make(self, bundle: Path) -> Any:
        with self._modules.importing():
            kind = _find_class(bundle / "code")
            _check_methods(kind)
            artifacts = bundle / "artifacts"
            try:
                instance = kind()
                if hasattr(instance, "load"):
                    instance.load(artifacts)
            except Exception as error:
                raise _load_error(error, artifacts, bundle / "code") from error
        return instance


def _load_pyfunc(data_path: str) -> BundleModel:
    """MLflow's entry point (https://mlflow.org/docs/latest/ml/model/python_model/): the model in `data_path`."""
    return BundleModel(Path(data_path).resolve())


def _as_frame(model_input: Any) -> Any:
    import pandas as pd

    return model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)


class _Modules:
    """The modules in one bundle's `code/`, which take turns in `sys.modules` with those of other bundles."""

    _lock = threading.RLock()
    _active: _Modules | None = None

    def __init__(self, code: Path) -> None:
        self._path = str(code)
        self._names = {path.stem for path in code.glob("*") if path.suffix == ".py" or path.is_dir()} - set(
            sys.stdlib_module_names
        )
        self._own: dict[str, ModuleType] = {}
        self._displaced: dict[str, ModuleType] = {}

    def activate(self) -> None:
        """Make imports find this bundle's modules; free when they already do."""
        if _Modules._active is self:
            return
        with self._lock:
            if _Modules._active is not None:
                _Modules._active._deactivate()
            self._displaced = self._taken()
            sys.modules.update(self._own)
            sys.path.insert(0, self._path)
            importlib.invalidate_caches()
            _Modules._active = self

    def _deactivate(self) -> None:
        self._own = self._taken()
        sys.modules.update(self._displaced)
        if self._path in sys.path:
            sys.path.remove(self._path)
        _Modules._active = None

    def _taken(self) -> dict[str, ModuleType]:
        """Take every module out of `sys.modules` whose name one of ours has."""
        mine = [name for name in sys.modules if name.partition(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in mine}

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Import with this bundle's modules, and leave no bytecode in its directory."""
        with self._lock:
            before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
            self.activate()
            try:
                yield
            except BaseException:
                self._deactivate()
                raise
            finally:
                sys.dont_write_bytecode = before


def _find_class(code: Path) -> type:
    source = code / f"{MODULE}.py"
    if not source.is_file():
        raise BundleError(
            "missing_module",
            f"code/{MODULE}.py is missing: a bundle's model is the class {CLASS} in that file, so add it.",
        )
    definitions = {path.name: _count_definitions(path) for path in sorted(code.glob("*.py"))}
    if sum(definitions.values()) > 1:
        where = ", ".join(name for name, count in definitions.items() if count)
        raise BundleError(
            "two_classes",
            f"{CLASS} is defined more than once (in {where}): a bundle has exactly one, so rename the others.",
        )
    try:
        module = importlib.import_module(MODULE)
    except Exception as error:
        raise BundleError(
            "import_error",
            f"code/{MODULE}.py cannot be imported ({describe(error, code)}): everything it imports must be in "
            "code/ or in requirements.txt, so add what is missing or mend that line.",
        ) from error
    kind = getattr(module, CLASS, None)
    if not isinstance(kind, type):
        raise BundleError(
            "missing_class",
            f"code/{MODULE}.py has no class {CLASS}: the server looks for that very name, so define it there.",
        )
    return kind


def _count_definitions(path: Path) -> int:
    try:
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise BundleError(
            "syntax_error",
            f"code/{path.name} is not valid Python {sys.version_info.major}.{sys.version_info.minor} "
            f"(line {line}: {getattr(error, 'msg', error)}): correct that line.",
        ) from error
    return sum(isinstance(node, ast.ClassDef) and node.name == CLASS for node in tree.body)


def _check_methods(kind: type) -> None:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise BundleError(
            "wrong_signature",
            f"{CLASS}() cannot be made ({error}): it is made with no arguments, so give every argument of "
            "__init__ a default and read files in load(self, artifacts).",
        ) from error
    if not callable(getattr(kind, "predict", None)):
        raise BundleError(
            "wrong_signature",
            f"{CLASS} has no method predict: it is the one method that must be there, so define predict(self, frame).",
        )
    for name, argument in METHODS.items():
        method = inspect.getattr_static(kind, name, None)
        if method is None:
            continue
        found: Any = getattr(kind, name)
        arguments = (None,) if isinstance(method, staticmethod | classmethod) else (None, None)
        try:
            inspect.signature(found).bind(*arguments)
        except (TypeError, ValueError) as error:
            raise BundleError(
                "wrong_signature",
                f"{CLASS}.{name} cannot be called with one argument ({error}): define it as {name}(self, {argument}).",
            ) from error


def _load_error(error: Exception, artifacts: Path, code: Path) -> BundleError:
    missing = getattr(error, "filename", None)
    if isinstance(error, FileNotFoundError) and missing is not None:
        path = Path(str(missing))
        name = path.relative_to(artifacts) if path.is_relative_to(artifacts) else path.name
        return BundleError(
            "missing_artifact",
            f"artifacts/{name} is missing: load(artifacts) opens it, so add the file to artifacts/ or open "
            "another one.",
        )
    return BundleError(
        "load_failed",
        f"{CLASS} cannot be loaded ({describe(error, code)}): it must load with the files in artifacts/ and the "
        "packages in requirements.txt alone, so mend that line or pin the package that wrote the artifact.",
    )


def describe(error: BaseException, code: Path) -> str:
    """`ValueError: bad value, custom_preprocess.py line 12`: the error and the innermost line in `code`."""
    text = " ".join(str(error).split())
    summary = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(code)]
    return f"{summary}, {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else summary
