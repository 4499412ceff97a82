"""Energy that a training took, and the CO₂ of making it.

Nothing here measures a current: power is a number for each core and GPU, which the card names. `about.yaml` beside the
run may give the true one.
"""

from __future__ import annotations

import subprocess
from typing import Any, NamedTuple

CORE_WATTS = 10.0
"""Power of a processor core at work, with its share of the memory, in watts: servers have 5 to 15."""
GPU_WATTS = 350.0
"""Power of a GPU at work whose limit is not known, in watts."""
WORLD_GRAMS = 475.0
"""Grams of CO₂ for a kilowatt-hour, the world's mean of 2019 (International Energy Agency)."""


class Energy(NamedTuple):
    """Energy of a training.

    Args:
        kwh: in kilowatt-hours.
        grams: of CO₂.
        how: sentence on how it was found.
    """

    kwh: float
    grams: float
    how: str


def estimate_energy(hours: float, cores: int, gpus: int, about: dict[str, Any]) -> Energy:
    """Hours times the power of cores and GPUs of one kind; `about` may state `watts` and `carbon_intensity` (g/kWh)."""
    stated, grams = number_in(about, "watts"), number_in(about, "carbon_intensity")
    limits = [power_limit() or GPU_WATTS] * gpus if gpus else []
    watts = cores * CORE_WATTS + sum(limits) if stated is None else stated
    if stated is not None:
        power = f"{watts:g} W, as the author states"
    else:
        parts = [f"{cores} processor cores of {CORE_WATTS:g} W each", *(f"a GPU of {limit:g} W" for limit in limits)]
        power = f"{watts:g} W ({' and '.join(parts)}: assumed, not measured)"
    source = "as the author states" if grams is not None else "the world's mean"
    grams = WORLD_GRAMS if grams is None else grams
    kwh = hours * watts / 1000
    return Energy(kwh, kwh * grams, f"{hours:.3g} hours at {power}; {grams:g} g of CO₂ a kWh, {source}")


def number_in(values: dict[str, Any], name: str) -> float | None:
    """A number that is stated; None where it is not, or is no number above 0."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def power_limit() -> float | None:
    """Power limit of the first GPU in watts; None where the driver does not say."""
    query = ["nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return float(subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
