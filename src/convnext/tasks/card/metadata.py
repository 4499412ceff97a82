"""Metadata of a card, as the Hub reads them from its first lines."""

from __future__ import annotations

import re
from typing import Any

from convnext.tasks.card.stored import Stored, shown_name
from convnext.variants import find_variant
from convnext.weights.licences import LICENCE

HUB_LICENCES = {"mit", "apache-2.0", "bsd-3-clause", "bsd-2-clause", "cc-by-nc-4.0", "cc-by-4.0", "cc0-1.0"}
"""The Hub's names of licences; others are "other", with their name beside."""
METRIC_TYPES = {"top1": "accuracy", "mAP": "mean_average_precision", "mIoU": "mean_iou", "macro_f1": "f1"}
"""The Hub's types of metrics; others keep their names."""


def metadata_of(stored: Stored) -> dict[str, Any]:
    """Arguments of `huggingface_hub.ModelCardData`."""
    from huggingface_hub import EvalResult

    config, words = stored.config, stored.words
    found: dict[str, Any] = {
        **licence_of(stored),
        "library_name": "convnext",
        "pipeline_tag": words.pipeline_tag,
        "tags": ["convnext", f"convnextv{find_variant(config.model).version}", words.pipeline_tag],
        "model_name": words.title,
        "co2_eq_emissions": emissions(stored),
        "eval_results": [
            EvalResult(
                task_type=words.pipeline_tag,
                dataset_type="imagefolder",
                dataset_name=shown_name(config.data),
                dataset_split=str(stored.facts.get("part", "validation")),
                metric_type=METRIC_TYPES.get(name, name),
                metric_name=name,
                metric_value=value,
            )
            for name, value in stored.metrics.items()
            if isinstance(value, int | float)
        ],
    }
    if config.init and (base := hub_name(config.init)):
        found["base_model"] = base
    return {name: value for name, value in found.items() if value not in (None, [])}


def licence_of(stored: Stored) -> dict[str, str]:
    """Licence of the weights: that which they inherited, else what the author states."""
    name = stored.meta.get(LICENCE) or stored.about.get("license")
    if not name:
        return {"license": "unknown"}
    known = str(name).lower()
    return {"license": known} if known in HUB_LICENCES else {"license": "other", "license_name": slug(known)}


def emissions(stored: Stored) -> dict[str, Any] | None:
    """CO₂ of the training in grams, as the Hub has it; None where it is not known."""
    energy = stored.facts.get("energy")
    if not energy:
        return None
    kind = "fine-tuning" if stored.config.init else "pre-training"
    hardware = ", ".join(stored.environment.get("devices") or []) or str(stored.environment.get("processor", ""))
    return {"emissions": energy["grams"], "source": "estimate", "training_type": kind, "hardware_used": hardware}


def hub_name(init: str) -> str | None:
    """`ORG/NAME` of first weights that are on the Hub; None for others."""
    from convnext.weights import hub, zoo

    if repository := hub.repository_of(init):
        return repository
    entry = zoo.lookup(init)
    if entry is None or not entry.url.startswith(hub.PREFIX):
        return None
    return "/".join(entry.url.removeprefix(hub.PREFIX).split("/")[:2])


def slug(name: str) -> str:
    """A name of small letters, digits and dashes, as the Hub takes it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "other"
