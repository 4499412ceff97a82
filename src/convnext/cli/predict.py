"""`convnext predict`: many images, of which some may be unreadable."""

from __future__ import annotations

import glob
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from convnext.data.images.decode import read_image
from convnext.data.sources.image_files import describe_unread, find_images, say_unread
from convnext.errors import ImageError, InputError
from convnext.inference.classifier import Predictor, load
from convnext.printing import complain, printable, to_json
from convnext.runtime.device import pick_device
from convnext.weights import read_meta

BATCH = 16


def predict_inputs(
    source: str,
    inputs: list[str],
    *,
    top_k: int,
    device: str,
    as_json: bool,
    out: Path | None,
    threshold: float,
    tile: int | None,
    image_size: int | None = None,
    crop: float | None = None,
) -> int:
    """Print the labels of every image, in order; returns 0, 1 if some image was unreadable, 2 if all were.

    With `as_json`, a single named file gives a line `[{"label", "score"}, ...]`; anything else gives a
    line `{"image", "labels"}` for each image, and `{"image", "error"}` for an unreadable one.
    """
    if top_k < 1:
        raise InputError(f"--top-k must be at least 1, not {top_k}")
    images = list(expand(inputs))
    predictor = load(source)
    predictor.resize(image_size, crop)
    if not isinstance(predictor, Predictor):
        where = pick_device(device)
        if read_meta(source).get("task") == "segment":
            from convnext.tasks.segment.predict import paint_inputs

            if tile is not None:
                raise InputError(f"{source} segments, and takes images of any size; --tile is for detectors")
            return paint_inputs(predictor, images, device=where, as_json=as_json, out=out)
        from convnext.tasks.detect.predict import find_in_inputs

        return find_in_inputs(predictor, images, device=where, as_json=as_json, out=out, threshold=threshold, tile=tile)
    if out is not None or tile is not None:
        raise InputError(f"{source} classifies; --out is for detectors and segmenters, --tile for detectors")
    predictor.model.to(pick_device(device))
    single = len(inputs) == 1 and len(images) == 1 and images[0][0] in (inputs[0], "-")
    bad = 0
    for name, answer in answers(predictor, images, top_k):
        if isinstance(answer, ImageError):
            bad += 1
            complain(answer)
            if as_json and not single:
                print(to_json({"image": name, "error": str(answer)}))
        elif as_json:
            print(to_json(answer if single else {"image": name, "labels": answer}), flush=True)
        else:
            lines = "".join(f"  {label['score']:.4f}  {label['label']}\n" for label in answer)
            print(printable(f"{name}\n{lines}"), end="")
    if bad and not single:
        complain(f"{bad} of {len(images)} images could not be read")
    return 0 if not bad else 2 if bad == len(images) else 1


def expand(inputs: list[str]) -> Iterator[tuple[str, Any]]:
    """Each image as (name, what `read_image` takes). `InputError` for an input that is not there or holds no image."""
    for item in inputs:
        if item == "-":
            yield from read_stdin(sys.stdin.buffer.read())
        elif Path(item).is_dir():
            unread = Counter[str]()
            found = find_images(Path(item), unread)
            if not found:
                raise InputError(f"no images in {item}{': ' + describe_unread(unread) if unread else ''}")
            say_unread(unread)
            yield from ((str(path), path) for path in found)
        elif Path(item).exists() or Path(item).is_symlink():
            yield item, item
        else:
            matches = sorted(glob.glob(item, recursive=True))
            if not matches:
                raise InputError(f"no such file, folder or pattern: {item}")
            yield from expand(matches)


def read_stdin(content: bytes) -> Iterator[tuple[str, Any]]:
    """Standard input is one image, or the paths of images, one a line."""
    if not content.strip():
        raise InputError("standard input is empty: pipe an image or a list of paths into it")
    try:
        lines = content.decode().splitlines() if b"\0" not in content else []
    except UnicodeDecodeError:
        lines = []
    if not lines:
        yield "-", io.BytesIO(content)
    yield from ((line, line) for line in lines if line.strip())


def answers(
    predictor: Predictor, images: list[tuple[str, Any]], top_k: int
) -> Iterator[tuple[str, list[dict] | ImageError]]:
    """Labels, or the error, of each image in order; readable ones go through the network in batches."""
    preprocessing = predictor.preprocessing
    for start in range(0, len(images), BATCH):
        inputs: list[torch.Tensor] = []
        errors: dict[int, ImageError] = {}
        chunk = images[start : start + BATCH]
        for i, (_, image) in enumerate(chunk):
            try:
                inputs.append(preprocessing(read_image(image, preprocessing.mode, white=preprocessing.white)))
            except ImageError as error:
                errors[i] = error
        labels = iter(predictor.labels(torch.stack(inputs), top_k) if inputs else [])
        for i, (name, _) in enumerate(chunk):
            yield name, errors[i] if i in errors else next(labels)
