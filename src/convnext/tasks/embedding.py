"""Embedding many images: in parts that are kept, so that what is interrupted goes on, and joined to one file at last.

A part is a file of its own beside the output, written whole. Parts begin at the same images whenever the work is
begun, and so do the batches in them: a resumed file is bit by bit that of one run.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from convnext.data.listed_loading import listed_loader
from convnext.data.sources.records import Member
from convnext.errors import InputError
from convnext.inference.base import Predictor
from convnext.printing import complain, progress
from convnext.reports.embeddings import EmbeddingRows, files_of, refuse_lines, write_embeddings
from convnext.runs.directory import parsed, read_text
from convnext.runs.lock import locked
from convnext.storage.files import whole_file

PART_BATCHES = 16
"""Batches whose embeddings are kept together."""

Images = Sequence[tuple[str, Any]]
"""(name, what `read_image` takes) each."""


class StoredPart(NamedTuple):
    """Embeddings float32 `[n, width]` of images at `places` in the list, and what is wrong with unreadable ones."""

    embeddings: np.ndarray
    places: np.ndarray
    problems: np.ndarray


class Parts:
    """A folder of the parts that are done.

    Args:
        folder: made if it is not there.
        plan: what the embeddings depend on, by the words for it.
        anew: delete what was begun.

    Raises:
        InputError: it was begun with another plan.
    """

    def __init__(self, folder: Path, plan: dict[str, str], *, anew: bool) -> None:
        self.folder, file = folder, folder / "plan.json"
        if file.is_file() and not anew:
            begun = parsed(read_text(file))
            if other := [words for words in plan if begun.get(words) != plan[words]]:
                raise InputError(
                    f"{folder} was begun with another {' and another '.join(other)}: give the same to go on, or "
                    "--overwrite to begin anew"
                )
        else:
            self.clear()
            with whole_file(file) as temporary:
                temporary.write_text(json.dumps(plan))
        self.done = 0
        while self.file(self.done).is_file():
            self.done += 1

    def clear(self) -> None:
        """Delete the parts and the plan, and nothing else that may lie in the folder."""
        for pattern in ("[0-9][0-9][0-9][0-9][0-9][0-9].npz", "plan.json", ".*.tmp"):
            for file in self.folder.glob(pattern):
                file.unlink()

    def file(self, number: int) -> Path:
        """Path of the part with this number."""
        return self.folder / f"{number:06}.npz"

    def add(self, part: StoredPart) -> None:
        """Keep the next part."""
        with whole_file(self.file(self.done)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **part._asdict())
        self.done += 1

    def read(self, *arrays: str) -> Iterator[list[np.ndarray]]:
        """Some arrays of each part that is done. `InputError` for one that is damaged."""
        for number in range(self.done):
            try:
                with open(self.file(number), "rb") as file, np.load(file, allow_pickle=False) as part:
                    found = [part[name] for name in arrays]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise InputError(f"{self.file(number)} is damaged; --overwrite begins anew") from error
            yield found

    def problems(self) -> list[str]:
        """A line on each unreadable image of all parts that are done."""
        return [line for (lines,) in self.read("problems") for line in lines.tolist()]


class Embedded(NamedTuple):
    """Result of `embed_images`: number of images embedded, width of an embedding, and a line on each image left out."""

    images: int
    width: int
    left_out: list[str]


def embed_images(
    predictor: Predictor, images: Images, out: Path, *, batch_size: int, workers: int, overwrite: bool
) -> Embedded:
    """Write the embeddings of images to `out` (`reports.embeddings`); goes on where a run before was interrupted.

    Images that cannot be read are named on stderr and left out; where none can, nothing is written. Parts lie in
    `out`.parts until the end. `InputError` for an output that is there, unless it is to be overwritten, or one that was
    begun with other images, another model or other options.
    """
    files, folder = files_of(out), out.with_name(f"{out.name}.parts")
    refuse_lines(out, (name for name, _ in images))
    for file in files:
        if file.is_dir() or (file.exists() and not overwrite):
            advice = "choose another name" if file.is_dir() else "--overwrite replaces it"
            raise InputError(f"{file} is there already; {advice}")
    try:
        with locked(folder):
            parts = Parts(folder, plan_of(predictor, images, batch_size), anew=overwrite)
            compute_parts(parts, predictor, images, batch_size, workers)
            problems = parts.problems()
            count = len(images) - len(problems)
            if count:
                read = parts.read("places", "embeddings")
                rows = (EmbeddingRows([images[at][0] for at in places], found) for places, found in read if len(places))
                write_embeddings(out, rows, count=count, width=predictor.width)
            parts.clear()
    finally:
        with suppress(OSError):  # something is kept in it
            folder.rmdir()
    return Embedded(count, predictor.width, problems)


def compute_parts(parts: Parts, predictor: Predictor, images: Images, batch_size: int, workers: int) -> None:
    """Add the parts that are not done."""
    for problem in parts.problems():
        complain(problem)
    loader = listed_loader(images, predictor.transform, batch_size=batch_size, workers=workers)
    loader.set_epoch(0, parts.done * PART_BATCHES)
    rows: list[np.ndarray] = []
    places: list[int] = []
    problems: list[str] = []
    try:
        with progress("embedding", len(images)) as advance:
            advance(min(parts.done * PART_BATCHES * batch_size, len(images)))
            for number, batch in enumerate(loader, start=parts.done * PART_BATCHES + 1):
                if batch.places:
                    rows += predictor.embeddings(batch.inputs)
                places += batch.places
                for _, problem in batch.unreadable:
                    complain(problem)
                    problems.append(problem)
                advance(len(batch.places) + len(batch.unreadable))
                if number % PART_BATCHES == 0 or number == len(loader):
                    found = np.stack(rows) if rows else np.empty((0, predictor.width), dtype=np.float32)
                    parts.add(StoredPart(found, np.array(places, dtype=np.int64), np.array(problems, dtype=str)))
                    rows, places, problems = [], [], []
    except KeyboardInterrupt:
        complain(f"what is done is kept in {parts.folder}: the same command goes on")
        raise
    finally:
        loader.close()


def plan_of(predictor: Predictor, images: Images, batch_size: int) -> dict[str, str]:
    """Everything that embeddings depend on, to the bit, by name."""
    return {
        "model": digest_of_model(predictor),
        "list of images": digest_of_images(images),
        "image size or crop": repr(predictor.transform),
        "batch size": str(batch_size),
        "device": predictor.device.type,
        "engine": predictor.backend,
    }


def digest_of_model(predictor: Predictor) -> str:
    """SHA-256 of a predictor's kind and weights, wherever they lie."""
    digest = hashlib.sha256(type(predictor).__name__.encode())
    for name, tensor in predictor.model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_images(images: Images) -> str:
    """SHA-256 of the images' names and sizes in bytes, in their order."""
    digest = hashlib.sha256()
    for name, source in images:
        digest.update(f"{name}\0{_size(source)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _size(source: Any) -> int | str:
    if isinstance(source, BytesIO):
        return hashlib.sha256(source.getvalue()).hexdigest()
    if isinstance(source, np.ndarray):
        return hashlib.sha256(source.tobytes()).hexdigest()
    if isinstance(source, Member):
        return source.members.identity(source.place).hex()
    try:
        return Path(source).stat().st_size
    except (OSError, ValueError):  # it will be named as unreadable
        return -1
