"""`convnext.measure_models`: how fast the members of the family are on this machine, and what they take."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from convnext.cores import usable_cores
from convnext.deploy import size_row
from convnext.deploy.own_process import run_apart
from convnext.errors import InputError
from convnext.models.cost import count_macs, count_parameters
from convnext.runs.environment import processor
from convnext.runtime.device import Precision, device_names, pick_device
from convnext.variants import VARIANTS, find_variant


@dataclass(frozen=True)
class SizeRow:
    """A member of the family on this machine, computed by PyTorch with random weights.

    What could not be measured is None, and `error` says in a line why.
    """

    model: str
    parameters: int
    """With a head of 1000 classes."""
    macs: int
    """Multiply-accumulates of one image."""
    image_size: int
    """Side of the images, in pixels."""
    precision: str
    device: str
    hardware: str
    """The processor or GPU."""
    threads: int
    """Threads of the CPU that compute."""
    engine: str | None = None
    latency_ms: float | None = None
    """Median time of a call with one image, in milliseconds."""
    images_per_s: float | None = None
    """In batches of 16."""
    memory_mb: float | None = None
    """Peak of a fresh process's own memory with one image, PyTorch's included; on a GPU, what PyTorch takes of its."""
    batch_memory_mb: float | None = None
    """In batches of 16."""
    error: str | None = None


def measure_models(names: Sequence[str] | None = None, **how: Any) -> list[SizeRow]:
    """Measure members of the family, one after the other, each in a process of its own: leave the machine alone.

    Args:
        names: names of `convnext models`, or patterns as "convnext_*"; None or none: V2's.
        how: the keyword arguments below.

    Keyword Args:
        image_size: side of the images, in pixels.
        precision: type of weights and activations; "fp16" for GPUs alone.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto": the best there is.
        threads: CPU threads; None: as many as this process may use processors.

    Raises:
        InputError: an unknown name, or a size, a device or a number of threads that cannot be. What goes wrong with one
            member is said in its row.
    """
    return list(size_rows(names, **how))


def size_rows(
    names: Sequence[str] | None = None,
    *,
    image_size: int = 224,
    precision: Precision = "fp32",
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[SizeRow]:
    """Rows of `measure_models`, each as soon as it is measured. Arguments and errors are those of `measure_models`."""
    chosen, where = choose_models(names), pick_device(device)
    if image_size < 1:
        raise InputError(f"image_size must be at least 1, not {image_size}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    if precision == "fp16" and where.type == "cpu":
        raise InputError("precision fp16 is for GPUs; on a CPU there is bf16")
    count = threads or len(usable_cores())
    hardware = processor() if where.type == "cpu" else device_names().get(str(where), str(where))
    for name in chosen:
        try:
            with tempfile.TemporaryDirectory() as folder:
                job = size_row.MeasuredSize(name, image_size, str(where), precision, count)
                found = run_apart(size_row.__name__, job, Path(folder), count)
        except InputError as error:
            found = {"error": str(error)}
        counted = (count_parameters(name), count_macs(name, image_size))
        yield SizeRow(name, *counted, image_size, precision, str(where), hardware, count, **found)


def choose_models(names: Sequence[str] | None) -> list[str]:
    """Members of the family by names and patterns, in the family's order; V2's where none is named."""
    if not names:
        return [name for name, variant in VARIANTS.items() if variant.version == 2]
    for name in names:
        if not any(fnmatchcase(each, name) for each in VARIANTS):
            find_variant(name)
    return [each for each in VARIANTS if any(fnmatchcase(each, name) for name in names)]
