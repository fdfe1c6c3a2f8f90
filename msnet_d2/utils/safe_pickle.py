"""Reading pickles of NumPy arrays without running what is in them.

A pickle is a program. This reader knows no functions but the few that arrays are written with, and
even for these puts its own in their place, which check what they are given: NumPy's trust their
arguments, down to addresses in memory.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["check_pickle", "load_pickle"]

_MAX_DEPTH = 100
# A detector with its optimizer takes 60,000; a million takes a second.
_MAX_STEPS = 2_000_000
# Python's integers collide as keys modulo 2^61 - 1.
_MAX_KEY = 1 << 60
# Booleans, integers, floating point, complex, bytes, text: nothing that points to other objects.
_PLAIN_KINDS = frozenset("biufcSU")


def load_pickle(path: str | Path) -> Any:
    """Load a pickle of numbers, text, containers and NumPy arrays, of any protocol.

    Text of Python 2 is read as Latin-1, as Detectron2 does. An OrderedDict becomes a dict.

    Args:
        path: of the file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds anything else, with what that is, or is no whole pickle.
    """
    with open(path, "rb") as file:
        try:
            return _finish(_Unpickler(file, encoding="latin1").load(), {}, 0)
        except (OSError, ValueError):
            raise
        # A program of nonsense may fail in any way.
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"it is no pickle of arrays: {reason}") from error


class _Dtype:
    """What ``numpy.dtype`` makes, while the pickle is read."""

    def __init__(self, name: object, *flags: object):
        self.value = np.dtype(name) if isinstance(name, str) else None
        if self.value is None or self.value.kind not in _PLAIN_KINDS or self.value.names:
            raise ValueError(f"it holds an array of {str(name)[:40]!r}, not of numbers or text")

    def set_state(self, state: tuple) -> None:
        # (version, byte order, subdtype, names, fields, size, alignment, flags, …)
        if any(part is not None for part in state[2:5]):
            raise ValueError("it holds an array with fields")
        size = state[5]
        if self.value.kind in "SU" and isinstance(size, int) and 0 < size < 1 << 16:
            item = size // 4 if self.value.kind == "U" else size
            self.value = np.dtype(f"{self.value.kind}{item}")
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """What an array is written as, until its data are there."""

    value: np.ndarray | None = None

    def set_state(self, state: tuple) -> None:
        _version, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: object, dtype: object, shape: object, order: str) -> np.ndarray:
    """An array of what lies in the file; NumPy checks that it is as much as its shape says."""
    if not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise ValueError("it holds an array of an unknown type")
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, (bytes, bytearray)):
        raise ValueError("it holds an array of objects")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(side) is int and side >= 0 for side in sides):
        raise ValueError("it holds an array of no shape")
    count = 1
    for side in sides:
        count *= side
    if count * dtype.value.itemsize != len(raw):
        raise ValueError("it holds an array whose data are not as long as its shape says")
    return np.frombuffer(bytearray(raw), dtype=dtype.value).reshape(sides, order=order)


def _reconstruct(_kind: object, _shape: object, _typecode: object) -> _Array:
    return _Array()


def _scalar(dtype: object, raw: object = b"") -> Any:
    return _array(raw, dtype, (), "C")[()]


def _from_buffer(raw: object, dtype: object, shape: object, order: str, *_: object) -> np.ndarray:
    return _array(raw, dtype, shape, order)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("it holds bytes in an unknown encoding")
    return text.encode("latin1")


def _bytes(*arguments: object) -> bytes:
    if not arguments:
        return b""
    if len(arguments) == 1 and isinstance(arguments[0], (list, bytes)):
        return bytes(arguments[0])
    return _encode(*arguments)


def _bytearray(*arguments: object) -> bytearray:
    return bytearray(_bytes(*arguments))


def _complex(real: float, imaginary: float = 0.0) -> complex:
    return complex(float(real), float(imaginary))


def _ordered_dict(items: object = ()) -> dict:
    pairs = list(items)
    _checked_keys(key for key, _ in pairs)
    return dict(pairs)


def _set(items: object = ()) -> set:
    return set(_checked_keys(items))


def _frozenset(items: object = ()) -> frozenset:
    return frozenset(_checked_keys(items))


def _checked_keys(keys: Any) -> Any:
    """Keys that are compared in a moment: the hash of a tuple in tuples goes through all of it."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(
            isinstance(p, (str, bytes, type(None))) or (isinstance(p, int) and abs(p) < _MAX_KEY)
            for p in parts
        ):
            raise ValueError(f"it holds a key that is a {type(key).__name__} of more than text")
    return keys


class _NdarrayName:
    """Stands for the class ``numpy.ndarray``, which is only named."""


_KNOWN: dict[tuple[str, str], Callable | type] = {
    ("numpy", "ndarray"): _NdarrayName,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _from_buffer
for _builtins in ("builtins", "__builtin__"):
    _KNOWN |= {
        (_builtins, "set"): _set,
        (_builtins, "frozenset"): _frozenset,
        (_builtins, "bytearray"): _bytearray,
        (_builtins, "bytes"): _bytes,
        (_builtins, "complex"): _complex,
    }


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, the one written in Python.

    The one in C sets memory aside for whatever number a file names.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Callable | type:
        """Know only what arrays are written with."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for {f'{module}.{name}'[:80]}, which may run code; only arrays, numbers, "
                "text and containers are read"
            ) from None

    def get_extension(self, code: int) -> None:
        """Refuse: extensions are functions of this process."""
        raise ValueError(f"it asks for the extension {code}, which may run code")

    def persistent_load(self, pid: object) -> None:
        """Refuse: nothing is kept outside of the file."""
        raise ValueError("it refers to objects outside of the file")

    def load_build(self) -> None:
        """Give an array or a dtype its state; nothing else may get one."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, (_Array, _Dtype)):
            raise ValueError(f"it sets the state of a {type(target).__name__}")
        target.set_state(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        _checked_keys(self.stack[-2:-1])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        _checked_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        _checked_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    def load_additems(self) -> None:
        _checked_keys(self.stack)
        super().load_additems()

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        _checked_keys(self.stack)
        super().load_frozenset()

    dispatch[pickle.FROZENSET[0]] = load_frozenset


class _Nothing:
    """Stands for all that a file names: a class, what calling it gives, a tensor's memory."""

    def __call__(self, *arguments: object, **named: object) -> _Nothing:
        return self

    def append(self, item: object) -> None:
        """Forget it."""

    extend = add = append

    def __setitem__(self, key: object, value: object) -> None:
        pass


class _DryRun(_Unpickler):
    """Goes through a pickle that another reader is to read, and makes nothing of it."""

    dispatch = dict(_Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Callable | type:
        return _Nothing()

    def persistent_load(self, pid: object) -> object:
        return _Nothing()

    def load_build(self) -> None:
        self.stack.pop()

    dispatch[pickle.BUILD[0]] = load_build

    def load_newobj(self) -> None:
        self.stack.pop()

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_frame(self) -> None:
        raise ValueError("it is a pickle of protocol 4, which torch does not write")

    dispatch[pickle.FRAME[0]] = load_frame


class _CountedReads(io.BytesIO):
    """Content that is read in a bounded number of steps; one for each instruction at least."""

    steps = 0

    def read(self, size: int | None = -1) -> bytes:
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        self._count()
        return super().readline(size)

    def _count(self) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise ValueError(f"it is a program of more than {_MAX_STEPS:,} steps")


def check_pickle(content: bytes, most: int = 1) -> int:
    """See that another reader gets to the end of pickles in bounded time and memory.

    Nothing in them is run.

    Args:
        content: that begins with up to ``most`` pickles, one behind the other.
        most: number of pickles.

    Returns:
        Bytes that they take.

    Raises:
        EOFError: if ``content`` ends before the last of them does.
        ValueError: if there is a program of more than two million steps, a key of a dict whose
            hash may take for ever, or no sound pickle.
    """
    file = _CountedReads(content)
    for _ in range(most):
        try:
            _DryRun(file, encoding="latin1").load()
        except (EOFError, ValueError):
            raise
        except Exception as error:  # a program of nonsense may fail in any way
            raise ValueError(f"it is no sound pickle ({type(error).__name__})") from error
    return file.tell()


def _finish(value: Any, done: dict[int, Any], depth: int) -> Any:
    """``value`` with arrays in place of what stood for them."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("it holds an array without data")
        return value.value
    if isinstance(value, _Dtype):
        return value.value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        # Filled in place: a container may hold itself.
        done[id(value)] = value
        for key, item in value.items():
            value[key] = _finish(item, done, depth + 1)
        return value
    if isinstance(value, list):
        done[id(value)] = value
        value[:] = [_finish(item, done, depth + 1) for item in value]
        return value
    if isinstance(value, tuple):
        # Remembered too: a file of 400 bytes may name one tuple 2^50 times.
        done[id(value)] = finished = tuple(_finish(item, done, depth + 1) for item in value)
        return finished
    if callable(value):
        raise ValueError("it holds a function or a class")
    return value
