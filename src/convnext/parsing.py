"""Values of options: from text and to it, and whether one that was stored can be a field's."""

from __future__ import annotations

import os
import types
import typing
from numbers import Number
from typing import Any, Literal, get_args, get_origin

from convnext.errors import InputError


def parse(name: str, text: str, kind: Any) -> Any:
    """Read `text` as a field's type: `InputError` naming the option and what it takes."""
    try:
        return _read(text, kind)
    except ValueError:
        raise InputError(f"{name} takes {_taken(kind)}, not '{text}'") from None


def _read(text: str, kind: Any) -> Any:
    """The value of a type that `text` is; `ValueError` if it is none."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if text.lower() == word_for_none(kind) else _read(text, without_none(kind))
    if origin is Literal:
        return args[[str(choice) for choice in args].index(text)]
    if origin is tuple:
        parts = text.replace(",", " ").split()
        args = args[:1] * max(1, len(parts)) if args[1:] == (...,) else args
        return tuple(_read(part, each) for part, each in zip(parts, args, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "yes", "1")
    return kind(text)


def _taken(kind: Any) -> str:
    """Describe in words the values that an option of a type accepts."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = without_none(kind)
        return f"{'true, false' if inner is bool else _taken(inner)} or {word_for_none(kind)}"
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin is tuple:
        several = _taken(args[0]).removeprefix("a ") + "s"
        return f"{several} with commas between them" if args[1:] == (...,) else f"{len(args)} {several}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}[kind]


def without_none(kind: Any) -> Any:
    """The type of the values of an option that may be None."""
    (inner,) = (each for each in get_args(kind) if each is not type(None))
    return inner


def word_for_none(kind: Any) -> str:
    """The word for None where an option of this type takes it: a switch that is neither on nor off is chosen by the
    training, and of other options there is none."""
    return "auto" if without_none(kind) is bool else "none"


def to_text(value: object, kind: Any) -> str:
    """A value of a field's type as `parse` reads it."""
    if isinstance(value, tuple):
        return ",".join(to_text(each, None) for each in value)
    if value is None:
        return word_for_none(kind)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Convert an option given in Python to what `config.json` can hold: a path to its text, a list to a tuple, a NumPy
    number to Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; whole numbers are fractions too."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        args = args[:1] * len(value) if args[1:] == (...,) else args
        return len(value) == len(args) and all(map(fits, value, args))
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind
