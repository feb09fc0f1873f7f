"""Checks a bundle's code by reading it: nothing of it is imported or run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway.bundles.layout import CODE_FILE
from slipway.bundles.wording import one_line, shown, size
from slipway.errors import UserError

__all__ = ["CLASS_NAME", "check_code"]

CLASS_NAME = "CustomPreprocessor"

_Function = ast.FunctionDef | ast.AsyncFunctionDef
# What is called, and with what: only `predict` must be there.
_METHODS = {
    "load": "load(self, artifacts)",
    "preprocess": "preprocess(self, frame)",
    "predict": "predict(self, frame)",
    "postprocess": "postprocess(self, result)",
}


def check_code(root: Path, paths: Sequence[str], max_bytes: int) -> list[str]:
    """Check the Python files of a normalised bundle and return the methods that its class defines.

    :param root: folder of the normalised bundle.
    :param paths: its files, relative to `root`.
    :param max_bytes: largest Python file taken.
    :raises UserError: if a file does not parse, or the class is missing, there twice, or has a wrong signature.
    """
    tree: ast.Module | None = None
    for path in paths:
        if path.startswith("code/") and path.endswith(".py"):
            parsed = _parse(root, path, max_bytes)
            tree = parsed if path == CODE_FILE else tree
    assert tree is not None, "layout.normalise has seen to it that the file is there"  # noqa: S101
    classes = [node for node in _top_level(tree.body) if isinstance(node, ast.ClassDef) and node.name == CLASS_NAME]
    if not classes:
        raise UserError(
            f"{CODE_FILE} defines no class {CLASS_NAME} at its top level: define it there, with predict(self, frame)."
        )
    if len(classes) > 1:
        lines = " and ".join(str(node.lineno) for node in classes[:2])
        raise UserError(f"{CODE_FILE} defines class {CLASS_NAME} more than once, on lines {lines}: keep one.")
    return _check_class(classes[0])


def _parse(root: Path, path: str, max_bytes: int) -> ast.Module:
    file = root / path
    if file.stat().st_size > max_bytes:
        raise UserError(f"Code file {shown(path)} is larger than {size(max_bytes)}: put data into artifacts/.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are the author's business
            return ast.parse(file.read_bytes(), filename=path)
    except SyntaxError as error:
        where = f" on line {error.lineno}" if error.lineno else ""
        raise UserError(
            f"Code file {shown(path)} has a syntax error{where}, {one_line(error.msg)}: correct it."
        ) from error
    except (ValueError, LookupError) as error:
        raise UserError(
            f"Code file {shown(path)} is not Python source text, {one_line(str(error))}: save it as UTF-8."
        ) from error
    except (RecursionError, MemoryError) as error:
        raise UserError(f"Code file {shown(path)} is nested too deeply to be read: simplify it.") from error


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported, those inside `if`, `try`, `with` and loops too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.For | ast.While):
            yield from _top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.TryStar):
            yield from _top_level([*node.body, *node.orelse, *node.finalbody])
            for handler in node.handlers:
                yield from _top_level(handler.body)
        elif isinstance(node, ast.With):
            yield from _top_level(node.body)


def _check_class(node: ast.ClassDef) -> list[str]:
    functions = {item.name: item for item in node.body if isinstance(item, _Function)}
    assigned = {
        target.id
        for item in node.body
        if isinstance(item, ast.Assign)
        for target in item.targets
        if isinstance(target, ast.Name)
    }
    for name, usage in _METHODS.items():
        if name in functions and name not in assigned:
            _check_method(functions[name], usage)
    if "__init__" in functions and _needed(functions["__init__"], bound=1) > 0:
        raise UserError(
            f"{CLASS_NAME}.__init__ needs arguments, but the class is made without any: read files in load(self, "
            "artifacts)."
        )
    inherits = any(not (isinstance(base, ast.Name) and base.id == "object") for base in node.bases)
    if "predict" not in functions and "predict" not in assigned and not inherits:
        raise UserError(
            f"{CLASS_NAME} has no method predict: define predict(self, frame), which gets a pandas DataFrame."
        )
    return [name for name in _METHODS if name in functions or name in assigned]


def _check_method(function: _Function, usage: str) -> None:
    wrong = f"{CLASS_NAME}.{function.name} on line {function.lineno}"
    decorators = {node.id for node in function.decorator_list if isinstance(node, ast.Name)}
    if "property" in decorators:
        raise UserError(f"{wrong} is a property: write it as a method {usage}.")
    if isinstance(function, ast.AsyncFunctionDef):
        raise UserError(f"{wrong} is async, but it is called directly: write it as a plain method {usage}.")
    if len(decorators) < len(function.decorator_list) or decorators - {"staticmethod", "classmethod"}:
        return  # a decorator may change the signature: the probe will call it
    bound = 0 if "staticmethod" in decorators else 1
    if _needed(function, bound) > 1 or not _takes_one(function, bound):
        raise UserError(f"{wrong} has the wrong signature, it must take exactly one argument: write {usage}.")


def _needed(function: _Function, bound: int) -> int:
    """Return how many arguments a call must give, not counting the first `bound`."""
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    keyword_only = sum(default is None for default in arguments.kw_defaults)
    return max(positional - bound, 0) + 2 * keyword_only  # no call gives those, so one is too many


def _takes_one(function: _Function, bound: int) -> bool:
    arguments = function.args
    return arguments.vararg is not None or len(arguments.posonlyargs) + len(arguments.args) >= bound + 1
