"""Follows a pickle's operations without carrying them out, and lists every global that loading it would look up.

A machine that keeps track of the stack and the memo, but knows of each value only what `pickle_values` says. So the
names of globals are known also where they come from the memo, and the raw array data that joblib writes between the
operations is passed over. Memory is constant: gigabytes in strings and arrays are skipped, not read.

The operations' arguments and effects on the stack are taken from the standard library's `pickletools`; joblib's file
format from `joblib.numpy_pickle.NumpyArrayWrapper.read_array`.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from slipway.bundles.pickle_stream import PickleStream, UnreadablePickleError
from slipway.bundles.pickle_values import (
    MAX_TEXT,
    NO_TEXT,
    UNKNOWN,
    ArrayWrapper,
    DictValue,
    DtypeValue,
    Global,
    Memo,
    dtype_from,
    dtype_state,
)

__all__ = ["Budget", "PickleWalk"]

_MAX_STACK = 250_000  # values; pickle writes lists and dicts in batches of 1,000
_MAX_GLOBALS = 10_000
_MAX_DEPTH = 3  # of tuples in tuples
_MAX_TUPLE = 64
_WRAPPER = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
_DTYPE = Global("numpy", "dtype")
_RECONSTRUCTORS = {Global("copyreg", "_reconstructor"), Global("copy_reg", "_reconstructor")}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: struct.Struct("<B"),
    pickletools.TAKEN_FROM_ARGUMENT4: struct.Struct("<i"),
    pickletools.TAKEN_FROM_ARGUMENT4U: struct.Struct("<I"),
    pickletools.TAKEN_FROM_ARGUMENT8U: struct.Struct("<Q"),
}
_ENCODINGS = {
    "SHORT_BINUNICODE": "utf-8",
    "BINUNICODE": "utf-8",
    "BINUNICODE8": "utf-8",
    "SHORT_BINSTRING": "latin-1",
    "BINSTRING": "latin-1",
}
_MAY_BE_TEXT = (pickletools.anyobject, pickletools.pyunicode, pickletools.pystring, pickletools.pybytes_or_str)


class Budget:
    """How many operations may still be walked, over all pickles of a file."""

    def __init__(self, operations: int) -> None:
        self.left = operations

    def spend(self, operations: int) -> None:
        """Count operations.

        :raises UnreadablePickleError: when none are left.
        """
        self.left -= operations
        if self.left < 0:
            raise UnreadablePickleError("it has too many operations to be checked")


class PickleWalk:
    """One pass over one pickle, from the stream's position to its STOP. `globals` fills while it runs."""

    def __init__(
        self, stream: PickleStream, budget: Budget, found: set[Global], *, joblib: bool = True, doubtful: bool = False
    ) -> None:
        """:param found: where the globals go; complete also when the walk ends in an error.
        :param joblib: whether array data may follow a NumpyArrayWrapper, as `joblib.load` reads it.
        :param doubtful: whether the bytes may be something else by all that is known, so that an operation
            which fails in any ordinary process speaks against their being a pickle.
        """
        self._stream = stream
        self._budget = budget
        self._found = found
        self._joblib = joblib
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._held = 0  # values below the marks
        self._memo = Memo()
        self._frame_end = 0
        self._doubtful = doubtful
        self.operations = 0

    def run(self) -> None:
        """Walk to the STOP.

        :raises UnreadablePickleError: if the bytes cannot be followed that far.
        """
        next_code, plans = self._stream.opcode, _PLANS
        pending = 0
        try:
            while True:
                plan = plans[next_code()]
                if plan is None:
                    raise UnreadablePickleError("it has an operation that pickle does not know")
                pending += 1
                if pending >= 4096:
                    self._budget.spend(pending)
                    self.operations += pending
                    pending = 0
                read, act = plan
                argument = read(self._stream) if read is not None else None
                if act is None:  # STOP
                    return
                act(self, argument)
        finally:
            self.operations += pending
            self._budget.left -= pending

    # The stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)
        if len(self._stack) + self._held > _MAX_STACK:
            raise UnreadablePickleError("it piles up too many values to be checked")

    def _pop(self) -> Any:
        if not self._stack:
            raise UnreadablePickleError("it takes a value from an empty stack")
        return self._stack.pop()

    def _mark(self, _: Any) -> None:
        self._held += len(self._stack)
        self._marks.append(self._stack)
        self._stack = []
        self._budget.spend(1)
        if len(self._marks) > _MAX_STACK:
            raise UnreadablePickleError("it piles up too many values to be checked")

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise UnreadablePickleError("it goes back to a mark that it has not set")
        items, self._stack = self._stack, self._marks.pop()
        self._held -= len(self._stack)
        return items

    # Operations whose values matter

    def _global(self, lines: tuple[bytes | None, bytes | None]) -> None:
        module, name = (_decoded(line) for line in lines)
        if module is UNKNOWN or name is UNKNOWN:
            raise UnreadablePickleError("a global in it has no proper name")
        self._push(self._find(module, name))

    def _instance(self, lines: tuple[bytes | None, bytes | None]) -> None:
        self._pop_mark()
        self._global(lines)
        self._stack[-1] = UNKNOWN

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._find(module, name))

    def _extension(self, _: Any) -> None:
        # A number in a registry of the loading process, empty unless its program fills it.
        if self._doubtful:
            raise UnreadablePickleError("it refers to a registry")
        self._push(self._find(UNKNOWN, UNKNOWN))

    def _find(self, module: Any, name: Any) -> Global:
        for part in (module, name):
            if not isinstance(part, str) and part is not UNKNOWN:
                raise UnreadablePickleError("it names a global by something else than text")
        found = Global(*(part if isinstance(part, str) else "?" for part in (module, name)))
        self._found.add(found)
        if len(self._found) > _MAX_GLOBALS:
            raise UnreadablePickleError("it refers to too many names to be checked")
        return found

    def _integer_line(self, line: bytes | None) -> None:
        digits = (line or b"").removesuffix(b"L")
        self._push(int(digits) if digits.isdigit() and len(digits) < 20 and digits not in {b"00", b"01"} else NO_TEXT)

    def _text_line(self, line: bytes | None) -> None:
        text = _decoded(line)
        # STRING stands in quotes, UNICODE does not; an escape in either makes the text unknown.
        self._push(text.strip("'\"") if text is not UNKNOWN and "\\" not in text else UNKNOWN)

    def _tuple(self, items: list[Any]) -> None:
        # No dicts inside: they can hold themselves.
        kept = tuple(NO_TEXT if isinstance(item, DictValue) else item for item in items[:_MAX_TUPLE])
        self._push(kept if len(items) <= _MAX_TUPLE and _depth(kept) <= _MAX_DEPTH else NO_TEXT)

    def _tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._tuple(items[::-1])

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._push(DictValue())
        self._put_items(items)

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._put_items([key, value])

    def _put_items(self, items: list[Any]) -> None:
        target = self._pop()
        if isinstance(target, DictValue):
            for key, value in zip(items[::2], items[1::2], strict=False):
                target.put(key, NO_TEXT if isinstance(value, DictValue) else value)
        self._push(target)

    def _put(self, index: int) -> None:
        if not self._stack:
            raise UnreadablePickleError("it remembers a value that is not there")
        if not self._memo.put(index, self._stack[-1]):
            raise UnreadablePickleError("it remembers too many values to be checked")

    def _get(self, index: int) -> None:
        try:
            self._push(self._memo.get(index))
        except KeyError as error:
            raise UnreadablePickleError("it recalls a value that it has not remembered") from error

    def _pop_top(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _pop_to_mark(self, _: Any) -> None:
        self._pop_mark()

    def _duplicate(self, _: Any) -> None:
        value = self._pop()
        self._push(value)
        self._push(value)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if function == _DTYPE:
            self._push(dtype_from(arguments))
        elif isinstance(function, Global) and function in _RECONSTRUCTORS and _first(arguments) == _WRAPPER:
            self._push(ArrayWrapper())
        else:
            self._push(UNKNOWN)

    def _new_object(self, count: int) -> None:
        for _ in range(count):
            self._pop()
        self._push(ArrayWrapper() if self._pop() == _WRAPPER else UNKNOWN)

    def _build(self, _: Any) -> None:
        state = self._pop()
        target = self._pop()
        if isinstance(target, DtypeValue):
            dtype_state(target, state)
        elif isinstance(target, ArrayWrapper) and self._joblib:
            target.state = state.items if isinstance(state, DictValue) else {}
            self._pass_array(target)
            target = NO_TEXT
        self._push(target)

    def _frame(self, argument: bytes) -> None:
        self._frame_end = self._stream.position + int.from_bytes(argument, "little")

    # joblib's arrays

    def _pass_array(self, wrapper: ArrayWrapper) -> None:
        if self._stream.position < self._frame_end:
            raise UnreadablePickleError("array data begin in the middle of a frame")
        # `pickle.load` does not know of the array data and would take them for operations: what would it find there?
        self._look_ahead()
        dtype = wrapper.state.get("dtype")
        if isinstance(dtype, DtypeValue) and dtype.has_objects:
            PickleWalk(self._stream, self._budget, self._found, joblib=False).run()
            return
        length = wrapper.raw_bytes()
        if length is None:
            raise UnreadablePickleError("the size of an array in it is not known")
        if wrapper.state.get("numpy_array_alignment_bytes") is not None:
            self._stream.skip(self._stream.take(1)[0])
        self._stream.skip(length)

    def _look_ahead(self) -> None:
        position = self._stream.position
        self._budget.spend(len(self._stack) + self._held)
        other = PickleWalk(self._stream, self._budget, self._found, joblib=False, doubtful=True)
        other._stack = [*self._stack, NO_TEXT]
        other._marks = [list(items) for items in self._marks]
        other._held = self._held
        other._memo = Memo(self._memo)
        try:
            other.run()
        except UnreadablePickleError:
            if self._budget.left < 0 or len(self._found) > _MAX_GLOBALS:
                raise
        self._stream.move(position)


def _decoded(line: bytes | None) -> Any:
    if line is None or len(line) > MAX_TEXT:
        return UNKNOWN
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return UNKNOWN


def _depth(value: Any) -> int:
    return 1 + max((_depth(item) for item in value), default=0) if isinstance(value, tuple) else 0


def _first(arguments: Any) -> Any:
    return arguments[0] if isinstance(arguments, tuple) and arguments else UNKNOWN


def _number(line: bytes | None) -> int:
    if line is None or not line.isdigit() or len(line) > 10:
        raise UnreadablePickleError("a number in it is none")
    return int(line)


_Read = Callable[[PickleStream], Any]
_Act = Callable[[PickleWalk, Any], None]

_SPECIAL: dict[str, _Act] = {
    "MARK": PickleWalk._mark,
    "POP": PickleWalk._pop_top,
    "POP_MARK": PickleWalk._pop_to_mark,
    "DUP": PickleWalk._duplicate,
    "GLOBAL": PickleWalk._global,
    "INST": PickleWalk._instance,
    "STACK_GLOBAL": PickleWalk._stack_global,
    "EXT1": PickleWalk._extension,
    "EXT2": PickleWalk._extension,
    "EXT4": PickleWalk._extension,
    "INT": PickleWalk._integer_line,
    "LONG": PickleWalk._integer_line,
    "BININT": lambda walk, data: walk._push(int.from_bytes(data, "little", signed=True)),
    "BININT1": lambda walk, data: walk._push(data[0]),
    "BININT2": lambda walk, data: walk._push(int.from_bytes(data, "little")),
    "LONG1": lambda walk, data: walk._push(int.from_bytes(data, "little", signed=True)),
    "NONE": lambda walk, _: walk._push(None),
    "NEWTRUE": lambda walk, _: walk._push(True),
    "NEWFALSE": lambda walk, _: walk._push(False),
    "STRING": PickleWalk._text_line,
    "UNICODE": PickleWalk._text_line,
    "EMPTY_TUPLE": lambda walk, _: walk._push(()),
    "TUPLE": lambda walk, _: walk._tuple(walk._pop_mark()),
    "TUPLE1": lambda walk, _: walk._tuple_of(1),
    "TUPLE2": lambda walk, _: walk._tuple_of(2),
    "TUPLE3": lambda walk, _: walk._tuple_of(3),
    "EMPTY_DICT": lambda walk, _: walk._push(DictValue()),
    "DICT": PickleWalk._dict,
    "SETITEM": PickleWalk._set_item,
    "SETITEMS": lambda walk, _: walk._put_items(walk._pop_mark()),
    "MEMOIZE": lambda walk, _: walk._put(len(walk._memo)),
    "PUT": lambda walk, line: walk._put(_number(line)),
    "BINPUT": lambda walk, data: walk._put(data[0]),
    "LONG_BINPUT": lambda walk, data: walk._put(int.from_bytes(data, "little")),
    "GET": lambda walk, line: walk._get(_number(line)),
    "BINGET": lambda walk, data: walk._get(data[0]),
    "LONG_BINGET": lambda walk, data: walk._get(int.from_bytes(data, "little")),
    "REDUCE": PickleWalk._reduce,
    "NEWOBJ": lambda walk, _: walk._new_object(1),
    "NEWOBJ_EX": lambda walk, _: walk._new_object(2),
    "BUILD": PickleWalk._build,
    "FRAME": PickleWalk._frame,
    **dict.fromkeys(_ENCODINGS, PickleWalk._push),
}


def _reader(operation: pickletools.OpcodeInfo) -> _Read | None:
    """Return what reads an operation's argument: bytes, lines, or text that may name something; UNKNOWN if too long."""
    kind, name = operation.arg, operation.name
    if kind is None:
        return None
    size = kind.n
    if size >= 0:
        return lambda stream: stream.take(size)
    if size == pickletools.UP_TO_NEWLINE:
        if name in {"GLOBAL", "INST"}:
            return lambda stream: (stream.line(), stream.line())
        return PickleStream.line
    form = _LENGTHS[size]

    def read(stream: PickleStream) -> Any:
        (length,) = form.unpack(stream.take(form.size))
        if length < 0:
            raise UnreadablePickleError("a value in it has a negative length")
        if name == "LONG1":
            return stream.take(length)
        encoding = _ENCODINGS.get(name)
        if encoding is None or length > MAX_TEXT:
            stream.skip(length)
            return UNKNOWN
        try:
            return str(stream.take(length), encoding, "surrogatepass")
        except UnicodeDecodeError as error:
            raise UnreadablePickleError("a text in it is not UTF-8") from error

    return read


def _actor(operation: pickletools.OpcodeInfo) -> _Act | None:
    """Return what an operation does: its special action, or its effect on the stack by pickletools' description."""
    if operation.name == "STOP":
        return None
    if operation.name in _SPECIAL:
        return _SPECIAL[operation.name]
    before, after = operation.stack_before, operation.stack_after
    marked = pickletools.markobject in before
    pops = before.index(pickletools.markobject) if marked else len(before)
    values = [UNKNOWN if kind in _MAY_BE_TEXT else NO_TEXT for kind in after]

    def act(walk: PickleWalk, _: Any) -> None:
        if marked:
            walk._pop_mark()
        for _index in range(pops):
            walk._pop()
        for value in values:
            walk._push(value)

    return act


_PLANS: list[tuple[_Read | None, _Act | None] | None] = [None] * 256
for _operation in pickletools.opcodes:
    _PLANS[ord(_operation.code)] = (_reader(_operation), _actor(_operation))
