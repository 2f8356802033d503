"""Read pickles as data: the objects in them are described, not created.

A pickle is a program for a small stack machine. This machine runs only the instructions that plain
data, tensors and arrays need. It calls nothing that a file names: :mod:`.globals` has a
stand-in for everything that a checkpoint may refer to. The work and the memory that a file can
cause grow with its size only.
"""

import os
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

from .globals import find_global
from .refs import Constructor, UnsafeGlobalError


class PickleError(ValueError):
    """A pickle is damaged, or has an instruction that no checkpoint needs."""


# Instructions whose argument is the value.
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEY_TYPES = (str, int, float, bytes, bool, type(None))


def load_pickle(file: BinaryIO, persistent_load: Callable[[Any], Any] | None = None) -> Any:
    """Read one pickle.

    Args:
        file: read up to the end of the pickle.
        persistent_load: returns the object of a persistent id; None if the file may have none.

    Returns:
        Plain data with the stand-ins of :mod:`.refs`.

    Raises:
        UnsafeGlobalError: it refers to objects that could run code.
        PickleError: it is damaged. Other exceptions mean the same.
    """
    machine = _Machine(persistent_load)
    for opcode, argument, _ in pickletools.genops(_BoundedReader(file)):  # type: ignore[arg-type]
        if opcode.name == "STOP":
            return machine.pop()
        machine.execute(opcode.name, argument)
    raise PickleError("it has no end")


class _BoundedReader:
    """A file that is never asked for more than it holds: Python reserves memory for all of it."""

    _SMALL = 1 << 16

    def __init__(self, file: BinaryIO) -> None:
        self.readline, self.tell = file.readline, file.tell
        self._file = file
        position = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(position)

    def read(self, size: int) -> bytes:
        if size > self._SMALL:
            size = min(size, self._end - self._file.tell())
        return self._file.read(size)


class _Machine:
    def __init__(self, persistent_load: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.persistent_load = persistent_load

    def pop(self) -> Any:
        if not self.stack:
            raise PickleError("its stack is empty")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items = self.stack
        if not self.outer:
            raise PickleError("a mark is missing")
        self.stack = self.outer.pop()
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise PickleError("a value is missing, or of another type")
        return self.stack[-1]

    def execute(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(self.memo) if name == "MEMOIZE" else argument
            self.memo[index] = self.top(object)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name not in ("PROTO", "FRAME") and not self._collect(name):
            self._construct(name, argument)

    def _collect(self, name: str) -> bool:
        """Run an instruction that fills a container or moves the stack; False for others."""
        match name:
            case "MARK":
                self.outer.append(self.stack)
                self.stack = []
            case "POP":
                if self.stack:
                    self.stack.pop()
                else:
                    self.pop_mark()
            case "POP_MARK":
                self.pop_mark()
            case "DUP":
                self.stack.append(self.top(object))
            case "LIST" | "TUPLE" | "FROZENSET" | "DICT":
                items = self.pop_mark()
                self.stack.append(_container(name, items))
            case "APPEND":
                item = self.pop()
                self.top(list).append(item)
            case "APPENDS":
                items = self.pop_mark()
                self.top(list).extend(items)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.top(dict)[require_key(key)] = value
            case "SETITEMS":
                items = self.pop_mark()
                self.top(dict).update(_pairs(items))
            case "ADDITEMS":
                items = self.pop_mark()
                self.top(set).update(map(require_key, items))
            case _:
                return False
        return True

    def _construct(self, name: str, argument: Any) -> None:
        """Run an instruction that refers to an object of a program."""
        match name:
            case "GLOBAL":
                module, _, attribute = argument.partition(" ")
                self.stack.append(find_global(module, attribute))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self.stack.append(find_global(str(module), str(attribute)))
            case "REDUCE" | "NEWOBJ":
                arguments, function = self.pop(), self.pop()
                if not isinstance(function, Constructor) or not isinstance(arguments, tuple):
                    raise PickleError("it calls something that is no constructor")
                self.stack.append(function.build(*arguments))
            case "BUILD":
                state = self.pop()
                target = self.top(object)
                if hasattr(target, "set_pickled_state"):
                    target.set_pickled_state(state)
                elif not isinstance(target, OrderedDict):  # a state_dict's version numbers
                    raise PickleError(f"it sets attributes of a {type(target).__name__}")
            case "PERSID" | "BINPERSID":
                key = self.pop() if name == "BINPERSID" else argument
                if self.persistent_load is None:
                    raise PickleError("it refers to other records")
                self.stack.append(self.persistent_load(key))
            case "INST" | "OBJ" | "NEWOBJ_EX" | "EXT1" | "EXT2" | "EXT4":
                raise UnsafeGlobalError(str(argument or name))
            case _:
                raise PickleError(f"the instruction {name} is not supported")


def require_key(key: Any) -> Any:
    """Return a key of a dictionary; nested tuples could take forever to hash."""
    if isinstance(key, _KEY_TYPES):
        return key
    if isinstance(key, tuple) and all(isinstance(item, _KEY_TYPES) for item in key):
        return key
    raise PickleError(f"a {type(key).__name__} is used as a key")


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise PickleError("a key has no value")
    return [(require_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]


def _container(name: str, items: list[Any]) -> Any:
    if name == "LIST":
        return items
    if name == "TUPLE":
        return tuple(items)
    if name == "FROZENSET":
        return frozenset(map(require_key, items))
    return dict(_pairs(items))
