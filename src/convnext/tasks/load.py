"""Opening a trained model, whatever its task and wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from convnext.errors import InputError, WeightsError
from convnext.inference.backends.network import use_backend
from convnext.inference.embedder import Embedder
from convnext.inference.exported import ExportedNetwork
from convnext.printing import command_line
from convnext.runtime.device import Precision, pick_device
from convnext.runtime.memory import is_out_of_memory
from convnext.storage.exports import check_device, check_precision, is_export
from convnext.tasks.definition import TaskDefinition
from convnext.tasks.registry import TASKS, find_task
from convnext.weights import read_meta
from convnext.weights.calibration import stored_calibration
from convnext.weights.files import locate
from convnext.weights.licences import note_licence


def load(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    backend: str = "auto",
    precision: Precision = "fp32",
    calibrated: bool = False,
) -> Any:
    """A predictor from a run directory, a weight file, a published name or `hf:ORG/NAME`: an `ImageClassifier`, a
    `Detector`, a `Segmenter`, a `DepthEstimator`, or of weights without classes an `Embedder`.

    Weights without classes of their own get ImageNet's where they have 1000 outputs, else "0", "1", ...;
    weights without preprocessing get the paper's at the size they were trained at, where that is known, else 224.

    Args:
        source: the weights.
        device: a name of `runtime.device.pick_device`; "auto" is the machine's accelerator, else its CPU. Exports are
            computed on the CPU.
        backend: the engine. Of weights "torch", "compile" or "openvino" (`inference.backends.network.use_backend`), of
            ONNX files "onnxruntime" or "openvino"; other exports have one. "auto" is the fastest one that is installed
            and needs no compiling. `predictor.backend` says which it is.
        precision: type of the computation; exports have their own.
        calibrated: answer with the calibration that is stored with the weights, which every training of a classifier or
            detector ends with: a temperature for scores, or a threshold for each class.

    Raises:
        WeightsError: nothing there, not a ConvNeXt, or not to be trusted.
        InputError: an engine that is not installed, or cannot run this source; a device or precision that an
            export does not have; weights without a calibration.
    """
    with opening(source):
        meta = read_meta(source)
        task, path = task_of_meta(meta), locate(source)
        exported = is_export(path)
        if exported:
            network = ExportedNetwork(path, meta, backend)
            predictor = task.exported(network, meta)
        else:
            predictor = task.predictor(source, meta)
        note_licence(predictor.model, meta)
        if calibrated:
            predictor.calibrate(stored_calibration(source, meta))
    if exported:  # its engine has a precision of its own, and the CPU
        check_precision(source, meta, precision)
        check_device(source, str(device))
        predictor.backend = network.engine.name
        return predictor
    predictor.to(pick_device(device) if isinstance(device, str) else device)
    predictor.backend = use_backend(predictor.model, backend, precision)
    return predictor


def load_answering(source: str | Path, **how: Any) -> Any:
    """`load`, of weights that answer with more than embeddings; `InputError` for others, which `convnext embed` takes.

    What is known by its task to hold an encoder alone is not read.
    """
    with opening(source):
        answers = task_of_weights(source).answers
    predictor = load(source, **how) if answers else None
    if predictor is None or isinstance(predictor, Embedder):
        command = f"{command_line('embed', source)} INPUT --out FILE"
        raise InputError(f"{source} answers with embeddings alone, which `{command}` writes")
    return predictor


def steady_backend(source: str | Path) -> str:
    """The engine whose figures do not depend on what is installed: PyTorch; of an export, its own."""
    return "auto" if is_export(source) else "torch"


@contextmanager
def opening(source: str | Path) -> Iterator[None]:
    """Inside, what is wrong with the weights at `source` becomes an `InputError` that names them."""
    try:
        yield
    except InputError as error:
        raise error if str(source) in str(error) else WeightsError(f"{source}: {error}") from error
    except Exception as error:  # what strangers write into a file raises nearly anything
        if is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"{source} does not hold a model that this version can use: {reason}") from error


def task_of_weights(source: str | Path) -> TaskDefinition:
    """The task that weights are of: classification's, where they do not say."""
    return task_of_meta(read_meta(source))


def task_of_meta(meta: dict[str, Any]) -> TaskDefinition:
    """The task that a weight file's metadata names; classification, where it names none that there is."""
    return next((task for task in TASKS if task.name == meta.get("task")), find_task("classify"))
