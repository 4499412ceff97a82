"""Options of a configuration: fields with a help text, and with bounds that their values must lie within."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from convnext.errors import InputError


class Bounds(NamedTuple):
    """Bounds of an option's value; nan never lies within, since it compares as false."""

    words: str
    """The bounds in words that an error message says after "must": "be at least 1"."""
    allow: Callable[[Any], bool]
    """Whether a value lies within the bounds."""


AT_LEAST_ONE = Bounds("be at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Bounds("not be negative", lambda value: 0 <= value < math.inf)
POSITIVE = Bounds("be positive", lambda value: 0 < value < math.inf)
ZERO_TO_ONE = Bounds("lie in [0, 1]", lambda value: 0 <= value <= 1)
BELOW_ONE = Bounds("lie in [0, 1)", lambda value: 0 <= value < 1)
ABOVE_ZERO = Bounds("lie in (0, 1]", lambda value: 0 < value <= 1)
BETWEEN = Bounds("lie between 0 and 1", lambda value: 0 < value < 1)
RANGE = Bounds("be two positive numbers, the smaller first", lambda pair: 0 < pair[0] <= pair[1] < math.inf)
RANGE_OF_SHARES = Bounds("be two numbers in (0, 1], the smaller first", lambda pair: 0 < pair[0] <= pair[1] <= 1)

OptionGroup = Literal["model", "optimisation", "data", "augmentation", "machine"]
"""Names of the groups under which help lists options."""


def option(
    default: Any,
    help: str,
    group: OptionGroup = "optimisation",
    *,
    common: bool = False,
    or_auto: bool = False,
    within: Bounds | None = None,
) -> Any:
    """A field with its help text; what is `common` stands in `--help`, all else in `--help-all`.

    `default` may be a function that finds the value. `or_auto`: the command takes "auto" too, for which a number is
    found before there is a configuration. `within`: what is allowed, beside None where an option may be that.
    """
    about = {"help": help, "group": group, "common": common, "or_auto": or_auto, "bounds": within}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=about)
    return dataclasses.field(default=default, metadata=about)


def check_bounds(config: Any) -> None:
    """`InputError` if a value of a configuration, an instance of a dataclass, lies outside its option's bounds."""
    for known in dataclasses.fields(config):
        bounds, value = known.metadata["bounds"], getattr(config, known.name)
        if bounds is not None and value is not None and not bounds.allow(value):
            numbers = value if isinstance(value, tuple) else (value,)
            words = bounds.words if all(map(math.isfinite, numbers)) else "be finite"
            raise InputError(f"{known.name} must {words}, not {value}{meaning_of_none(known.metadata['help'])}")


def meaning_of_none(help: str) -> str:
    """The part of an option's help text that explains the value none, with its separator: "; none: no clipping". Empty
    where the text has no such part."""
    return help[help.rindex(start) :] if (start := "; none: ") in help else ""
