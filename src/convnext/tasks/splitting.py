"""Options of a run on what is trained on, held out and left out, as the readers of data take them."""

from __future__ import annotations

from typing import Any, NamedTuple

from convnext.data.division import Division
from convnext.data.exclude import ExcludeList, read_exclude
from convnext.data.splits import HoldOut
from convnext.errors import InputError


class Splitting(NamedTuple):
    """How data are divided where they do not say it, how although they say it, and what is left out of them."""

    hold_out: HoldOut
    division: Division | None
    exclude: ExcludeList | None


def splitting_of(config: Any) -> Splitting:
    """The options of a supervised run. `InputError` for values that cannot work, or a list that cannot be read."""
    asked = {name: getattr(config, name) for name in ("group_by", "stratify", "fold", "time_column")}
    for name, value in asked.items():
        if isinstance(value, str) and not value.strip():
            raise InputError(f"{name} is empty; leave it out to divide without")
    division = Division(config.val_fraction, **asked) if any(asked.values()) else None
    return Splitting(HoldOut(config.val_fraction, config.hold_out_rule), division, read_exclude(config.exclude))
