"""`convnext.benchmark`: how fast, large and right a trained model is on this machine, by format and precision."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convnext.cores import usable_cores
from convnext.deploy import benchmark_row
from convnext.deploy.export.verify import made_up_images, share_of_range
from convnext.deploy.export.write import export
from convnext.deploy.own_process import run_apart
from convnext.errors import InputError, nearest
from convnext.inference.base import BATCH
from convnext.inference.detector import Detector
from convnext.printing import to_json
from convnext.storage.exports import FORMATS
from convnext.storage.files import make_folder, whole_file
from convnext.tasks.load import load
from convnext.weights import read_meta
from convnext.weights.files import locate

PRECISIONS_OF = {
    "torch": ("fp32", "bf16"),
    "compile": ("fp32", "bf16"),
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32", "bf16"),
    "aot": ("fp32", "bf16"),
    "int8": ("int8",),
}
"""Rows of each format."""
USUAL = ("torch", "onnx", "openvino")
"""Formats that are measured where none are named; int8 too, where there are images to calibrate it on."""
ENGINES = {"torch": "torch", "compile": "compile", "onnx": "onnxruntime", "openvino": "openvino", "int8": "openvino"}
"""Backend, as `load` takes it, that runs a format."""


@dataclass(frozen=True)
class BenchmarkRow:
    """A format in a precision on this machine.

    Times are medians of calls with images of the predictor's own size. `difference` is the largest one from PyTorch in
    fp32, as a share of the outputs' range; None for detectors. `metrics` are those of `evaluate`. A row that could not
    be measured has an `error`, a line, and None for the rest.
    """

    format: str
    precision: str
    engine: str | None = None
    latency_ms: float | None = None
    """Median time of a call with one image, in milliseconds."""
    images_per_s: float | None = None
    """In batches of 16; None for detectors."""
    file_mb: float | None = None
    memory_mb: float | None = None
    """Peak of a fresh process's own memory, PyTorch's included."""
    export_s: float | None = None
    """To make the file, its check included; None where the weights are used as they are."""
    load_s: float | None = None
    first_s: float | None = None
    """The first call; compiles, where the engine does."""
    difference: float | None = None
    metrics: dict[str, Any] | None = None
    error: str | None = None


def benchmark(source: str | Path, **how: Any) -> list[BenchmarkRow]:
    """Measure a model on this machine's CPU, format by format; a detector's images go one by one.

    Each row is measured in a process of its own, one after the other: leave the machine alone meanwhile.

    Args:
        source: what `load` takes, but for an export.
        how: the keyword arguments below.

    Keyword Args:
        formats: some of torch, compile, onnx, openvino, aot and int8; None: torch, onnx and openvino, and int8 where
            there are images for it.
        data: labelled images, as `evaluate` takes them, for metrics.
        calibrate: a folder of images for int8; None: the training images of `data`, where that is a folder.
        image_size: side of the images, in pixels; None: the model's own.
        threads: CPU threads for each engine; None: as many as this process may use processors.
        out: a folder for the exports and `benchmark.json`, which holds the rows as they come; None keeps neither.

    Raises:
        WeightsError: nothing there, or not to be trusted.
        InputError: an unknown format, a source without exports, int8 without images, or a folder that cannot be made.
            What goes wrong with one row is said in it.
    """
    return list(benchmark_rows(source, **how))


def benchmark_rows(
    source: str | Path,
    *,
    formats: Sequence[str] | None = None,
    data: str | Path | None = None,
    calibrate: str | Path | None = None,
    image_size: int | None = None,
    threads: int | None = None,
    out: str | Path | None = None,
) -> Iterator[BenchmarkRow]:
    """Rows of `benchmark`, each as soon as it is measured. Arguments and errors are those of `benchmark`."""
    images_of_int8 = calibrate or _training_images(data)
    chosen = _formats(formats, images_of_int8)
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    if "export" in read_meta(source):
        raise InputError(f"{source} is an export; name what it was made of")
    predictor = load(source, device="cpu", backend="torch")
    if not predictor.outputs:
        raise InputError(f"a {type(predictor).__name__} cannot be exported, and is not measured")
    predictor.see(image_size)
    batches = [1] if isinstance(predictor, Detector) else [1, BATCH]
    seen = made_up_images(batches[-1], predictor.transform.mode)
    inputs = torch.stack([predictor.transform(image) for image in seen])
    # Objects of a detector stand in no fixed order, and a threshold may let another number of them through.
    expected = None if isinstance(predictor, Detector) else benchmark_row.outputs_of(predictor, inputs)
    del predictor
    job = benchmark_row.MeasuredRow(
        source=str(source),
        backend="torch",
        precision="fp32",
        batches=batches,
        threads=threads or len(usable_cores()),
        image_size=image_size,
        data=None if data is None else str(data),
    )
    content = {"source": str(source), "threads": job.threads, "size": list(inputs.shape[2:])}
    rows = []
    with tempfile.TemporaryDirectory() if out is None else nullcontext(out) as kept:
        make_folder(Path(kept))
        for format in chosen:
            for precision in PRECISIONS_OF[format]:
                try:
                    row = _row(job, format, precision, images_of_int8, Path(kept), inputs, expected)
                except InputError as error:
                    row = BenchmarkRow(format, precision, error=str(error))
                rows.append(row)
                if out is not None:  # after each: the next ones may be interrupted
                    with whole_file(Path(out) / "benchmark.json") as file:
                        file.write_text(to_json(content | {"rows": [asdict(row) for row in rows]}, 2))
                yield row


def _row(
    job: benchmark_row.MeasuredRow,
    format: str,
    precision: str,
    calibrate: str | Path | None,
    kept: Path,
    inputs: Tensor,
    expected: Sequence[Tensor] | None,
) -> BenchmarkRow:
    found: dict[str, Any] = {}
    backend = ENGINES.get(format, "auto")
    if format in ("torch", "compile"):
        job = job._replace(backend=backend, precision=precision)
        file = locate(job.source)
    else:
        start = time.perf_counter()
        file = _exported(job.source, format, precision, calibrate, kept)
        found["export_s"] = time.perf_counter() - start
        job = job._replace(source=str(file), backend=backend)
    parts = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    found["file_mb"] = sum(part.stat().st_size for part in parts) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / benchmark_row.INPUTS, inputs.numpy())
        found |= run_apart(benchmark_row.__name__, job, folder, job.threads)
        if expected is not None:
            with np.load(folder / benchmark_row.OUTPUTS) as outputs:
                own = [torch.from_numpy(outputs[each]) for each in outputs.files]
            found["difference"] = max(map(share_of_range, expected, own))
    return BenchmarkRow(format, precision, **found)


def _exported(source: str, format: str, precision: str, calibrate: str | Path | None, kept: Path) -> Path:
    if format == "int8":
        return export(source, kept / "int8.xml", format="openvino", int8=calibrate).path
    return export(source, kept / f"{precision}{FORMATS[format]}", format=format, precision=precision).path


def _formats(formats: Sequence[str] | None, calibrate: str | Path | None) -> list[str]:
    if formats is None:
        return [*USUAL, *(["int8"] if calibrate is not None else [])]
    for name in formats:
        if name not in PRECISIONS_OF:
            raise InputError(f"unknown format '{name}'; {nearest(name, list(PRECISIONS_OF))}")
    if "int8" in formats and calibrate is None:
        raise InputError("int8 needs images like those that will be seen: --calibrate FOLDER")
    return list(dict.fromkeys(formats))


def _training_images(data: str | Path | None) -> Path | None:
    """The folder of images that a folder of labelled data trains on; None for data of other forms.

    Segmentation's has images and label maps side by side, each in a folder.
    """
    if data is None:
        return None
    folders = (Path(data, *parts) for parts in (("images", "train"), ("images",), ("train",), ()))
    return next((folder for folder in folders if folder.is_dir()), None)
