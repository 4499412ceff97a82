"""Calibration that is stored with weights, and travels with them into exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.errors import InputError

CALIBRATION = "calibration"
"""Name in the metadata of weights."""


def stored_calibration(source: str | Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The calibration in the metadata of the weights at `source`. `InputError` where there is none."""
    if CALIBRATION not in meta:
        how = "`convnext evaluate SOURCE DATA --calibrate` fits one"
        raise InputError(f"no calibration is stored with {source}: {how}")
    return meta[CALIBRATION]
