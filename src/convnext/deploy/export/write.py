"""`convnext.export`: a trained model into a file for another engine, checked before it is kept."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from convnext.data.sources.image_files import find_images
from convnext.deploy.export.detector import thresholds, verify_detector
from convnext.deploy.export.formats import PRECISIONS, note, write_onnx, write_openvino, write_package
from convnext.deploy.export.int8 import quantiser
from convnext.deploy.export.network import MOST, ExportNetwork, program_of
from convnext.deploy.export.verify import made_up_images, verify
from convnext.errors import InputError, WeightsError, nearest
from convnext.inference.backends import installed_backends
from convnext.inference.base import Predictor
from convnext.inference.detector import Detector
from convnext.inference.embedder import Embedder
from convnext.inference.exported import ExportedNetwork
from convnext.inference.squares import SeesSquares
from convnext.storage.exports import FORMATS, VERSION, export_meta
from convnext.tasks.evaluate import evaluate
from convnext.tasks.load import load
from convnext.weights import read_meta
from convnext.weights.files import EMBEDS

DESCRIBED = (
    "task",
    "classes",
    "category_ids",
    "descriptions",
    "multi_label",
    "preprocessing",
    "transform",
    "depth",
    "testing",
    "calibration",
    "licence",
    "export",
)
"""Metadata keys written to the JSON file beside an export, for programs that do not read the export's own."""
CHECKED = 3
"""Images that an export is checked on."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Export(NamedTuple):
    """A written export: its file, the engine that checked it, and its largest difference from the network.

    `engine` is one that runs it here. `difference` is a share of the outputs' range; a detector's is of its objects'
    scores. `measured` holds the metrics of the "network" and the "export" on labelled images, where there were some.
    """

    path: Path
    engine: str
    difference: float
    measured: dict[str, dict[str, Any]] | None = None


def export(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    int8: str | Path | None = None,
    data: str | Path | None = None,
    images: str | Path | None = None,
    pixels: bool = False,
) -> Export:
    """Export a model for batches and images of any size; of detectors for one image at a time.

    Args:
        source: what `load` takes, but for an export.
        out: the file: `.onnx`, `.xml` (OpenVINO, which gets a `.bin` beside it) or `.pt2` (compiled for this machine's
            kind of processor). Preprocessing and classes are written beside it too, with `.json` after its name. An
            export is written over, a `.bin` that is of none is not.
        format: "onnx", "openvino" or "aot".
        precision: "fp32"; "fp16" or "bf16" where the format has it.
        int8: a folder of images like those that will be seen. Weights and activations are quantised to 8 bits, by the
            ranges that up to 300 of them show; for openvino.
        data: labelled images, as `evaluate` takes them, on which the network and its export in 8 bits are measured.
        images: a folder of images to check the export on; those of `int8` or made-up ones without.
        pixels: the file takes pixels, uint8 `[N, H, W, C]`, resized and cropped, and normalises them itself.

    Raises:
        WeightsError: nothing there, or not to be trusted.
        InputError: a task, format or precision that there is none of, an engine that is not installed, no images in
            a folder, or a difference in any installed engine beyond 1e-4 of the outputs' range (fp32) or 2e-2 (fp16,
            bf16), of detectors beyond `OBJECT_BOUNDS`. In 8 bits the difference has no bound, but outputs must be
            finite.
    """
    out = Path(out)
    _check(out, format, precision, int8, data)
    if "export" in read_meta(source):
        raise InputError(f"{source} is an export; name what it was made of")
    predictor = load(source, device="cpu", backend="torch")
    if not predictor.outputs:
        raise InputError(f"a {type(predictor).__name__} cannot be exported")
    seen = _images(predictor, images or int8)
    write: Callable = {"onnx": write_onnx, "openvino": write_openvino, "aot": write_package}[format]
    statistics = _statistics(predictor) if pixels else None
    if int8 is not None:
        precision, write = "int8", partial(write_openvino, adapt=quantiser(predictor, int8, statistics))
    measured = {"network": evaluate(str(source), str(data), device="cpu")} if data is not None else None
    meta = _meta(predictor, source, format, precision, statistics)
    # OpenVINO converts a network in fp32, whatever it stores and computes in.
    dtype = torch.float32 if format == "openvino" else _DTYPES[precision]
    network = ExportNetwork(copy.deepcopy(predictor.model), predictor.compute, dtype, statistics)
    folder = out.with_name(f".{out.name[:64]}.{os.getpid()}.tmp")
    try:
        folder.mkdir()
        part = folder / out.name
        write(program_of(network, meta["export"]["in_chans"], meta["export"]["batch"][1]), part, meta)
        check: Callable = verify_detector if isinstance(predictor, Detector) else verify
        differences = {}
        for name in installed_backends(part):
            exported = ExportedNetwork(part, meta, name)
            differences[exported.engine.name] = check(predictor, exported, seen, precision)
            del exported
        difference, engine = max(differences.values()), next(iter(differences))
        if measured is not None:
            measured["export"] = evaluate(str(part), str(data), device="cpu")
            meta["export"]["measured"] = measured
            note(part, meta)
        description = {name: meta[name] for name in DESCRIBED if name in meta}
        part.with_name(f"{out.name}.json").write_text(
            json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        for file in sorted(folder.iterdir()):  # .bin comes before .xml, which names it
            os.replace(file, out.with_name(file.name))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Export(out, engine, difference, measured)


def _check(out: Path, format: str, precision: str, int8: object, data: object) -> None:
    if format not in FORMATS:
        raise InputError(f"unknown format '{format}'; {nearest(format, list(FORMATS))}")
    if precision not in PRECISIONS[format]:
        raise InputError(f"{format} has no precision {precision}: it has {', '.join(PRECISIONS[format])}")
    if int8 is not None and (format, precision) != ("openvino", "fp32"):
        raise InputError("int8 is a precision of its own, of --format openvino alone")
    if data is not None and int8 is None:
        raise InputError("--data goes with --int8: exports of other precisions are held to their network's answers")
    if out.suffix != FORMATS[format]:
        raise InputError(f"{out}: {format} files end in {FORMATS[format]}")
    weights = out.with_suffix(".bin")
    if format == "openvino" and weights.exists() and not _is_own(out):
        raise InputError(f"{weights} exists already, and no export that it is of lies beside it; name a new file")


def _is_own(file: Path) -> bool:
    """Whether a file is an export of this project."""
    try:
        export_meta(file)
    except WeightsError:
        return False
    return True


def _images(predictor: Predictor, folder: str | Path | None) -> list:
    mode = predictor.transform.mode
    if folder is None:
        return made_up_images(CHECKED, mode)
    found = find_images(Path(folder))
    if not found:
        raise InputError(f"{folder} holds no images")
    return [predictor.read(path) for path in found[:: max(1, len(found) // CHECKED)][:CHECKED]]


def _meta(
    predictor: Predictor, source: str | Path, format: str, precision: str, statistics: list | None
) -> dict[str, Any]:
    meta = {**read_meta(source)}
    if isinstance(predictor, SeesSquares):
        meta |= {"preprocessing": predictor.preprocessing.to_dict(), "classes": predictor.classes}
        meta["descriptions"] = dict(zip(predictor.classes, getattr(predictor, "answers", ()), strict=False))
    if isinstance(predictor, Embedder):
        meta["task"] = EMBEDS
    network = predictor.model
    meta["export"] = {
        "version": VERSION,
        "format": format,
        "precision": precision,
        "outputs": list(predictor.outputs),
        "normalises": statistics,
        "in_chans": getattr(network, "in_chans", 3),
        "num_classes": getattr(network, "num_classes", 0),
        "num_features": getattr(network, "num_features", 0),
        "batch": [1, MOST],
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    if isinstance(predictor, Detector):
        meta["export"] |= {"batch": [1, 1], **thresholds(network)}
    return meta


def _statistics(predictor: Predictor) -> list[list[float]]:
    """Mean and deviation of each channel by which the predictor's images are normalised."""
    square = isinstance(predictor, SeesSquares)
    found = (predictor.transform.mean, predictor.transform.std) if square else (IMAGENET_MEAN, IMAGENET_STD)
    return [list(values) for values in found]
