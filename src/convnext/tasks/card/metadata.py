"""Metadata of a card, as the Hub reads them from its first lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convnext.printing import shown_name
from convnext.runs.directory import is_run, parsed, read_text
from convnext.storage.hub import PREFIX
from convnext.tasks.card.stored import Stored
from convnext.weights.licences import LICENCE, licence_named, licence_on_hub
from convnext.weights.zoo import lookup, repository_holding

METRIC_TYPES = {"top1": "accuracy", "mAP": "mean_average_precision", "mIoU": "mean_iou", "macro_f1": "f1"}
"""The Hub's types of metrics; others keep their names."""


def metadata_of(stored: Stored) -> dict[str, Any]:
    """Arguments of `huggingface_hub.ModelCardData`."""
    from huggingface_hub import EvalResult

    config, words = stored.config, stored.words
    found: dict[str, Any] = {
        **licence_of(stored),
        "library_name": "convnext",
        "pipeline_tag": stored.pipeline_tag,
        "tags": ["convnext", config.model],
        "model_name": words.title,
        "co2_eq_emissions": emissions(stored),
        "eval_results": [
            EvalResult(
                task_type=stored.pipeline_tag,
                dataset_type="imagefolder",
                dataset_name=shown_name(config.data),
                dataset_split="validation",
                metric_type=METRIC_TYPES.get(name, name),
                metric_name=name,
                metric_value=value,
            )
            for name, value in stored.metrics.items()
            if isinstance(value, int | float)
        ],
    }
    if config.init and (base := base_model(config.init)):
        found["base_model"] = base
    return {name: value for name, value in found.items() if value not in (None, [])}


def licence_of(stored: Stored) -> dict[str, str]:
    """Licence of the weights: that which they inherited, else what the author states."""
    name = stored.meta.get(LICENCE) or stored.about.get("license")
    return licence_on_hub(licence_named(name)) or {"license": "unknown"}


def emissions(stored: Stored) -> dict[str, Any] | None:
    """CO₂ of the training in grams, as the Hub has it; None where it is not known."""
    energy = stored.facts.get("energy")
    if not energy:
        return None
    kind = "fine-tuning" if stored.config.init else "pre-training"
    hardware = ", ".join(stored.environment.get("devices") or []) or str(stored.environment.get("processor", ""))
    return {"emissions": energy["grams"], "source": "estimate", "training_type": kind, "hardware_used": hardware}


def base_model(init: str) -> str | None:
    """The repository on the Hub, `ORG/NAME`, of the weights that a run started from, or of a copy of theirs; None where
    there is none. Of a run that started from another run, those of the first."""
    for _ in range(10):  # runs that name each other end too
        if not is_run(Path(init)):
            break
        init = str(parsed(read_text(Path(init) / "config.json")).get("init") or "")
    entry = lookup(init)
    if entry is not None:
        return repository_holding(entry)
    return init.removeprefix(PREFIX) if init.startswith(PREFIX) else None
