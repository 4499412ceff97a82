"""A classifier's calibration, which needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CalibratedLabels:
    """Calibration of a classifier: a temperature for its logits, and a score threshold for each label of a multi-label
    classifier, or None for no thresholds."""

    temperature: float = 1.0
    thresholds: list[float] | None = None

    def calibrate(self, stored: Mapping[str, Any]) -> None:
        """Divide logits by the stored temperature; of several labels, answer with those that reach their threshold."""
        self.temperature, self.thresholds = stored.get("temperature", 1.0), stored.get("thresholds")
