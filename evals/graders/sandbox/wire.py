"""How the process with the tests and the process with the code speak: values as JSON, everything else by reference.

What comes from the code is data and nothing else: plain values are rebuilt from JSON, of exact built-in types, so that no
object of the code, with an `__eq__` of its own or other surprises, is ever in the hands of the tests. An object that is no
plain value stays where it is; the other side gets a `Remote` that names it.
"""

import builtins
import datetime
import decimal
import fractions
import json
import operator
import os
import struct
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

LARGEST = 16 << 20
"""Bytes of the longest message."""

_KINDS: dict[str, tuple[Callable[..., Any], Callable[[Any], list[Any]]]] = {
    "tuple": (lambda *items: tuple(items), list),
    "set": (lambda *items: set(items), list),
    "frozenset": (lambda *items: frozenset(items), list),
    "deque": (lambda *items: deque(items), list),
    "dict": (lambda *pairs: dict(pairs), lambda value: list(value.items())),
    "bytes": (bytes.fromhex, lambda value: [value.hex()]),
    "bytearray": (bytearray.fromhex, lambda value: [value.hex()]),
    "complex": (complex, lambda value: [value.real, value.imag]),
    "range": (range, lambda value: [value.start, value.stop, value.step]),
    "Decimal": (decimal.Decimal, lambda value: [str(value)]),
    "Fraction": (fractions.Fraction, lambda value: [value.numerator, value.denominator]),
    "datetime": (datetime.datetime.fromisoformat, lambda value: [value.isoformat()]),
    "date": (datetime.date.fromisoformat, lambda value: [value.isoformat()]),
    "time": (datetime.time.fromisoformat, lambda value: [value.isoformat()]),
    "timedelta": (datetime.timedelta, lambda value: [value.days, value.seconds, value.microseconds]),
}
"""For each type that JSON has not: how it is made of arguments, and the arguments of a value. Subclasses travel as these."""

_TYPES: dict[type, str] = {
    **{
        kind: kind.__name__ for kind in (tuple, set, frozenset, deque, dict, bytes, bytearray, complex, range)
    },
    **{kind: kind.__name__ for kind in (decimal.Decimal, fractions.Fraction)},
    **{kind: kind.__name__ for kind in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)},
}
_VIEWS = {type({}.keys()): "set", type({}.values()): "list", type({}.items()): "list"}


class Ended(Exception):
    """The other side has ended, or says what is no message."""


class Stop(BaseException):
    """Raised by a signal: what goes on is to be given up."""


class Channel:
    """Messages over two pipes: a length of four bytes, then JSON."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        if len(data) > LARGEST:
            raise ValueError("a value of more than 16 MB")
        data = struct.pack("I", len(data)) + data
        while data:
            data = data[os.write(self.writing, data) :]

    def receive(self) -> Any:
        """The next message. Raises Ended."""
        (length,) = struct.unpack("I", self._exactly(4))
        if length > LARGEST:
            raise Ended("a message that is too long")
        try:
            return json.loads(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise Ended("no message") from error

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = os.read(self.reading, min(length - len(data), 1 << 20))
            if not piece:
                raise Ended("the other side has ended")
            data += piece
        return data


class Remote:
    """Stands here for an object of the other side; what is done with it is done there."""

    def __init__(self, side: "Side", number: int, kind: str) -> None:
        self.__dict__.update(_side=side, _number=number, _kind=kind)

    def __repr__(self) -> str:
        return f"<{self._kind}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._side.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._side.ask("setattr", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._side.ask("call", self, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        """An object is equal to no plain value; two objects of the other side are as that side says."""
        return isinstance(other, Remote) and bool(self._side.ask("eq", self, other))

    def __hash__(self) -> int:
        return hash(self._number)


def _passed_on(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._side.ask(name, self, *args)


_OPERATORS = "lt le gt ge add sub mul truediv floordiv mod pow matmul and_ or_ xor neg abs getitem setitem delitem contains"
CALLING: dict[str, Callable[..., Any]] = {
    "call": lambda function, *args, **kwargs: function(*args, **kwargs),
    "iter": iter,
    "next": next,
    "len": len,
    "getitem": operator.getitem,
}
"""What the code may do with an object of the tests: nothing that tells what is in it."""
EVERYTHING: dict[str, Callable[..., Any]] = {
    **CALLING,
    **{function.__name__: function for function in (getattr, setattr, str, bool, operator.eq)},
    **{name: getattr(operator, name) for name in _OPERATORS.split()},
}
"""What the tests may do with an object of the code."""
for _name in {*EVERYTHING, *_OPERATORS.split()} - {"call", "getattr", "setattr", "eq"}:
    setattr(Remote, f"__{_name.strip('_')}__", _passed_on(_name))


class Side:
    """One of the two processes: its end of the channel, and the objects of its own that the other side knows by number."""

    def __init__(self, channel: Channel, operations: dict[str, Callable[..., Any]]) -> None:
        self.channel, self.operations = channel, operations
        self._kept: list[Any] = []
        self._errors: dict[str, type[Exception]] = {}

    def ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Have the other side do something and wait for it, serving it meanwhile. Raises what that raised."""
        self.channel.send({"do": operation, "args": self.encode(args), "kwargs": self.encode(kwargs)})
        while "do" in (message := self.channel.receive()):
            self._serve(message)
        if "raised" in message:
            raise self._error(*message["raised"])
        for position, value in message["changed"]:
            _become(args[position], self.decode(value))
        return self.decode(message["result"])

    def serve(self) -> None:
        """Do what the other side asks for until it ends."""
        while True:
            try:
                message = self.channel.receive()
            except Ended:
                return
            self._serve(message)

    def _serve(self, message: Any) -> None:
        try:
            args, kwargs = self.decode(message["args"]), self.decode(message["kwargs"])
            before = [self.encode(arg) if isinstance(arg, _CHANGEABLE) else None for arg in args]
            result = self.encode(self.operations[message["do"]](*args, **kwargs))
            after = [self.encode(arg) if isinstance(arg, _CHANGEABLE) else None for arg in args]
            changed = [[at, after[at]] for at in range(len(args)) if after[at] != before[at]]
            self.channel.send({"result": result, "changed": changed})
        except Stop:
            raise
        except BaseException as error:  # the code's own SystemExit and the like are answers, too
            bases = [
                base.__name__
                for base in type(error).__mro__
                if getattr(builtins, base.__name__, None) is base
            ]
            self.channel.send({"raised": [type(error).__name__, bases[0], str(error)[:500]]})

    def error_class(self, name: str, base: str) -> type[Exception]:
        """What stands here for an exception class of the other side: its nearest built-in one, or a class derived of it."""
        builtin = _BUILTINS.get(base)
        if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
            builtin = RuntimeError
        return (
            builtin if name == builtin.__name__ else self._errors.setdefault(name, type(name, (builtin,), {}))
        )

    def _error(self, name: str, base: str, text: str) -> Exception:
        try:
            return self.error_class(str(name), str(base))(text)
        except Exception:  # UnicodeDecodeError takes five arguments
            return RuntimeError(f"{name}: {text}")

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value) if -(1 << 60) < value < 1 << 60 else {"int": hex(value)}
        if isinstance(value, float):
            return {"float": float(value).hex()}
        if isinstance(value, list):
            return [self.encode(item) for item in value]
        if isinstance(value, Remote):
            return {"yours": value._number}
        if kind := _VIEWS.get(type(value)):
            return self.encode(set(value) if kind == "set" else list(value))
        for base in type(value).__mro__:
            if name := _TYPES.get(base):
                return {name: [self.encode(argument) for argument in _KINDS[name][1](value)]}
        if isinstance(value, type | type(len)) and _BUILTINS.get(value.__name__) is value:
            return {"builtin": value.__name__}
        if isinstance(value, ModuleType):
            raise TypeError(f"the module {value.__name__} cannot be passed")
        self._kept.append(value)
        return {"mine": [len(self._kept) - 1, type(value).__name__]}

    def decode(self, data: Any) -> Any:
        """Raises ValueError, TypeError and the like for what no `encode` has made."""
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict):
            return data
        ((kind, content),) = data.items()
        if kind == "int":
            return int(content, 16)
        if kind == "float":
            return float.fromhex(content)
        if kind == "builtin":
            return _BUILTINS[content]
        if kind == "mine":
            return Remote(self, int(content[0]), str(content[1]))
        if kind == "yours":
            return self._kept[int(content)]
        return _KINDS[kind][0](*(self.decode(item) for item in content))


_CHANGEABLE = (list, dict, set, bytearray, deque)


def _become(old: Any, new: Any) -> None:
    """Change a container in place to the contents of another of its type."""
    if type(old) is not type(new) or not isinstance(old, _CHANGEABLE):
        return
    if isinstance(old, list | bytearray):
        old[:] = new
    else:
        old.clear()
        (old.extend if isinstance(old, deque) else old.update)(new)


_BUILTINS = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type | type(len))
    and name not in ("eval", "exec", "open", "compile", "__import__", "input")
}
