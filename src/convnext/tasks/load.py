"""Opening a trained model, whatever its task and wherever it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from convnext.errors import InputError, WeightsError
from convnext.runtime.device import pick_device
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS, find_task
from convnext.weights import read_meta
from convnext.weights.licences import note_licence


def load(source: str | Path, *, device: str | torch.device = "auto") -> Any:
    """A predictor from a run directory, a weight file, a published name or `hf:ORG/NAME`: an `ImageClassifier`, a
    `Detector`, a `Segmenter` or a `DepthEstimator`.

    Weights without classes of their own get ImageNet's where they have 1000 outputs, else "0", "1", ...;
    weights without preprocessing get the paper's at the size they were trained at, where that is known, else 224.

    The network is put on `device`, a name of `runtime.device.pick_device`; "auto" takes the machine's accelerator.

    Raises:
        WeightsError: nothing there, not a ConvNeXt, no head, or not to be trusted.
    """
    try:
        meta = read_meta(source)
        predictor = task_of_meta(meta).predictor(source, meta)
        note_licence(predictor.model, meta)
    except MemoryError:
        raise
    except InputError as error:
        raise error if str(source) in str(error) else WeightsError(f"{source}: {error}") from error
    except Exception as error:  # what strangers write into a file raises nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"{source} does not hold a model that this version can use: {reason}") from error
    return predictor.to(pick_device(device) if isinstance(device, str) else device)


def task_of_weights(source: str | Path) -> TaskDefinition:
    """The task that weights are of: classification's, where they do not say."""
    return task_of_meta(read_meta(source))


def task_of_meta(meta: dict[str, Any]) -> TaskDefinition:
    """The task that a weight file's metadata names; classification, where it names none that there is."""
    name = meta.get("task")
    return find_task(name if name in {task.name for task in TASKS} else "classify")
