"""Values of options: from text, and whether one that was stored can be a field's."""

from __future__ import annotations

import os
import types
import typing
from numbers import Number
from typing import Any, Literal, get_args, get_origin

from convnext.errors import InputError


def parse(name: str, text: str, kind: Any) -> Any:
    """Read `text` as a field's type: `InputError` naming the option and what it takes."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "auto"):
            return None
        (kind,) = (a for a in args if a is not type(None))
        return parse(name, text, kind)
    if origin is Literal:
        for choice in args:
            if text == str(choice):
                return choice
        raise InputError(f"{name} takes {', '.join(map(str, args))}, not '{text}'")
    if origin is tuple:
        parts = text.replace(",", " ").split()
        if args[1:] == (...,):
            args = args[:1] * max(1, len(parts))
        if len(parts) != len(args):
            raise InputError(f"{name} takes {len(args)} numbers, not '{text}'")
        return tuple(parse(name, part, a) for part, a in zip(parts, args, strict=True))
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise InputError(f"{name} takes true or false, not '{text}'")
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"{name} takes {kind.__name__}, not '{text}'") from None


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
