"""Reading and writing weight files.

A file is read without ever running code from it, and written whole or not at all. This project's own files are
safetensors in the official layout, with a JSON object under the metadata key `convnext`: `task`, `classes`,
`preprocessing`, `multi_label` and whatever else the task that wrote it needs to be used.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from convnext.errors import InputError, WeightsError
from convnext.storage.exports import export_meta, is_export
from convnext.storage.files import whole_file
from convnext.storage.hub import PREFIX
from convnext.weights import hub, openmmlab, zoo
from convnext.weights.key_tables import State
from convnext.weights.layouts import (
    DECODER,
    detect_layout,
    is_clip_tower,
    leave_out_extras,
    strip_prefix,
    to_official,
)
from convnext.weights.licences import LICENCE, LICENCE_FROM, licence_in_words, warn_of_licence

log = logging.getLogger("convnext")

RUN_FILE = "model.safetensors"
EMBEDS = "embed"
"""The task of weights that answer with embeddings: trained ones without a head, or whose head is a projection."""
META_KEY = "convnext"

BIN_FILE = "pytorch_model.bin"
_CONTAINERS = ("model_ema", "state_dict_ema", "model", "state_dict", "module")
_NUMBERS: list[Any] = [np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}, np.float64(0).__reduce__()[0]]
"""Types that a pickled NumPy number is made of, as training scripts save beside weights; none of them runs code."""
_WHOLE_NUMBERS = ("num_batches_tracked", "relative_position_index", "position_ids")
"""Buffers that are whole numbers: BatchNorm's, and those of transformers, which are refused for what they are."""
MOST_TENSORS = 20_000
"""Tensors of a file, at most; the largest network here has some hundreds, a checkpoint several times as many."""


def locate(source: str | Path) -> Path:
    """The weight file `source` stands for, downloaded if need be.

    Args:
        source: a weight file, a folder with `model.safetensors`, the name of published weights, or `hf:ORG/NAME`.

    Raises:
        WeightsError: there is no such thing, or it cannot be downloaded.
    """
    path, name = Path(source), str(source)
    if len(max(name.split("/"), key=len)) > 255:
        raise WeightsError(f"no such weight file or run directory: {name[:100]}…")
    if path.is_dir():
        found = next((path / name for name in (RUN_FILE, BIN_FILE) if (path / name).is_file()), None)
        if found is None:
            raise WeightsError(
                f"{path} holds no {RUN_FILE}: not a run directory, or its training has saved no model yet"
            )
        return found
    if path.exists():
        if not path.is_file():
            raise WeightsError(f"{path} is not a file")
        return path
    if entry := zoo.lookup(name):
        return zoo.download_published(entry)
    if repository := hub.repository_of(name):
        return hub.download_repository(repository)
    if path.name == name and not path.suffix:
        zoo.find(name)
    raise WeightsError(f"no such weight file or run directory: {name}")


def read_state(source: str | Path) -> tuple[State, dict]:
    """The state dict in the official layout, in fp32, and what is known of its use (empty if nothing is).

    Args:
        source: as for `locate`. Files may be safetensors or PyTorch's (`.pt`, `.pth`, `.bin`; of several models
            inside the averaged one is taken), in the official, timm, Hugging Face or FCMAE layout.

    Raises:
        WeightsError: missing, empty or damaged; no tensors inside; or a pickle that could run code.
    """
    path = locate(source)
    state, notes, _ = read_file(path)
    for note in notes:
        log.info("%s: %s", path, note)
    return _in_fp32(state), read_meta(path)


def read_tensors(source: str | Path) -> State:
    """The tensors of a file of this project's own, in fp32, under their names, whatever network they are of; of a
    detector or segmenter of `weights.openmmlab`, under the names they would have here."""
    path = locate(source)
    warn_of_licence(path, read_meta(path))
    return _in_fp32(openmmlab.own_names(_unwrap(_read_content(path), path)[0]))


def refuse_unusable(state: State) -> None:
    """`WeightsError` for tensors that no weights are: complex, quantised or sparse ones, whole numbers that are none of
    `_WHOLE_NUMBERS`, and numbers that are not finite."""
    for key, tensor in state.items():
        whole = not tensor.is_floating_point() and not key.endswith(_WHOLE_NUMBERS)
        if whole or tensor.is_quantized or tensor.is_sparse:
            raise WeightsError(f"'{key}' is of a kind that weights are not: {tensor.dtype}, {tensor.layout}")
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise WeightsError(f"'{key}' holds numbers that are not finite: these weights are of a run that diverged")


def _in_fp32(state: State) -> State:
    """Convert floating-point weights of any width to fp32; `WeightsError` as of `refuse_unusable`."""
    refuse_unusable(state)
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def are_trained(source: str | Path | None) -> bool:
    """Whether first weights learnt more than to fill in hidden patches: a pre-training run beats random weights, but is
    no trained model.

    Weights that do not say so are judged by what they hold: FCMAE leaves neither a head nor a last norm.
    """
    if source is None:
        return False
    meta = read_meta(source)
    if "task" in meta:
        return "classes" in meta or meta["task"] == EMBEDS
    state = _read_official(locate(source)).state
    return "head.weight" in state or "norm.weight" in state


def read_meta(source: str | Path) -> dict:
    """Facts for the use of these weights, without reading them: classes, preprocessing, task, licence.

    It comes from the file's own metadata, from the shapes of a detector or segmenter of `weights.openmmlab`, from the
    table of published files, or from a `config.json` of transformers or timm beside it; empty if there is none of
    these.
    """
    path = locate(source)
    if is_export(path):
        return export_meta(path)
    own = read_own_meta(path)
    if own is not None and "task" in own:
        return own
    entry, repository = _published(path), hub.cached_repository(path)
    meta = zoo.published_meta(entry) if entry else {}
    if path.name in (RUN_FILE, BIN_FILE):
        meta |= hub.hub_meta(path.parent)
    if repository and not entry and (licence := hub.licence_of_repository(repository, path.parent)):
        meta |= {LICENCE: licence, LICENCE_FROM: f"{PREFIX}{repository}"}
    return meta | _meta_of_content(path, entry) | (own or {})


def _published(path: Path) -> zoo.PublishedWeights | None:
    """The published weights that a file is by its name, its place in the Hub's cache, or timm's name beside it."""
    repository = hub.cached_repository(path)
    name = hub.timm_name(path.parent) if path.name in (RUN_FILE, BIN_FILE) else None
    return zoo.lookup(f"{PREFIX}{repository}" if repository else name or path.stem)


def read_own_meta(source: str | Path) -> dict | None:
    """Metadata that this project wrote into the header of a weight file; None if it did not write it."""
    path = locate(source)
    if path.suffix != ".safetensors":
        return None
    with _open_safetensors(path) as file:
        text = (file.metadata() or {}).get(META_KEY)
    if text is None:
        return None
    try:
        meta = json.loads(text)
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise WeightsError(f"{path}: its metadata '{META_KEY}' is not a JSON object; the file is damaged")
    return meta


def own_licence(path: Path) -> str:
    """In words, the licence that this project stored with weights; empty if it does not restrict use, or no file is
    there."""
    return licence_in_words(read_own_meta(path) or {}) if path.is_file() else ""


def _meta_of_content(path: Path, entry: zoo.PublishedWeights | None) -> dict:
    """Metadata implied by names and shapes, of OpenMMLab's networks and CLIP's image towers; else empty."""
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            names = list(file.keys())
        if not (openmmlab.is_openmmlab(names) or is_clip_tower(names)):
            return {}
    content = _read_content(path)
    state, _ = _unwrap(content, path)
    if openmmlab.is_openmmlab(state):
        size = entry.image_size if entry else None
        return openmmlab.describe_whole(openmmlab.own_names(state), _class_names(content), size) or {}
    return zoo.clip_meta() if entry is None and is_clip_tower(state) else {}


def _class_names(content: Any) -> list[str] | None:
    """The classes that mmcv (`CLASSES`) and mmengine (`dataset_meta`) write beside the tensors."""
    about = content.get("meta")
    for place in (about, about.get("dataset_meta")) if isinstance(about, dict) else ():
        for name in ("CLASSES", "classes"):
            found = place.get(name) if isinstance(place, dict) else None
            if isinstance(found, list | tuple) and all(isinstance(each, str) for each in found):
                return list(found)
    return None


class WeightFile(NamedTuple):
    """A file's state dict in the official layout, a note on each choice and omission, and the layout it came in,
    "none" if no layout knows a name."""

    state: State
    notes: list[str]
    layout: str


def read_file(path: Path, *, decoder: bool = False) -> WeightFile:
    """The weights of one file. With `decoder`, that of a pre-training file stays in, under its own names."""
    state, notes, layout = _read_official(path)
    extra = [] if decoder else [key for key in state if key.startswith(DECODER)]
    if extra:
        state = {key: tensor for key, tensor in state.items() if key not in extra}
        notes.append(f"left out the {len(extra)} tensors of the pre-training decoder")
    if licence := warn_of_licence(path, read_meta(path)):
        notes.append(licence)
    return WeightFile(state, notes, layout)


def _read_official(path: Path) -> WeightFile:
    """All tensors of one file under their official names."""
    state, notes = _unwrap(_read_content(path), path)
    state, beside = strip_prefix(openmmlab.own_names(state))
    layout = detect_layout(state)
    state, extra = leave_out_extras(state, layout)
    if dropped := [*beside, *extra]:
        left = ", ".join(sorted({key.split(".")[0] for key in dropped})[:5])
        notes.append(f"left out {len(dropped)} tensors that are not the network's: {left}")
    return WeightFile(to_official(state, layout), notes, (layout or "none").split("/")[0])


def _read_content(path: Path) -> Any:
    if is_export(path):
        raise WeightsError(f"{path} is an export, without weights to train or convert: name what it was made of")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    if empty:
        raise WeightsError(f"{path} is empty; write or download it again")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def save_state(path: str | Path, state: State, meta: dict | None = None) -> None:
    """Write `state` as safetensors with `meta` as JSON in its header, whole or not at all; the same bytes every time.

    Raises:
        InputError: the path does not end in `.safetensors`, or cannot be written (folder missing, disk full).
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: weights are written as .safetensors; choose a name that ends so")
    header = {"format": "pt"} | ({META_KEY: json.dumps(meta)} if meta is not None else {})
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    with whole_file(path) as part:
        part.touch()
        mode = part.stat().st_mode
        try:
            save_file(tensors, part, header)
            _sort_metadata(part)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        part.chmod(mode)  # safetensors makes files that only their owner can read


def store_meta(path: Path, changes: dict[str, Any]) -> None:
    """Change entries of the metadata of a weight file of this project's own, whose tensors stay as they are.

    `WeightsError` for a file that this project did not write.
    """
    meta = read_own_meta(path)
    if meta is None:
        raise WeightsError(f"{path} is not a weight file that convnext wrote: nothing can be stored with it")
    save_state(path, _read_safetensors(path), {**meta, **changes})


def _sort_metadata(path: Path) -> None:
    """Give a safetensors file the bytes that its content determines: the library writes metadata in random order, and
    to whoever compares checksums that is another file."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def _open_safetensors(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file, or was cut short: {error}") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None


def _read_safetensors(path: Path) -> State:
    with _open_safetensors(path) as file:
        keys = list(file.keys())
        if len(keys) > MOST_TENSORS:
            raise WeightsError(f"{path} holds {len(keys)} tensors: more than any network here has")
        return {key: file.get_tensor(key) for key in keys}


def _read_pickle(path: Path) -> object:
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace, *_NUMBERS]):
            # Training scripts, the official ones too, save their arguments beside the weights.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged files fail in torch with errors of any type
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise WeightsError(
                f"{path} holds a pickle that could run code; refused; ask for a safetensors file"
            ) from None
        raise WeightsError(f"{path} is not a PyTorch weight file, or was damaged or cut short") from None


def _refuse_compressed(path: Path) -> None:
    """`WeightsError` for a zip file with compressed members, which PyTorch does not write: 15 MB can become 2 GB."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # what reads it says what is wrong with it
        return
    if compressed:
        raise WeightsError(f"{path} is a compressed archive, which PyTorch's weight files are not")


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)


def _unwrap(content: object, path: Path) -> tuple[State, list[str]]:
    """The tensors of a checkpoint, which may hold several models; the averaged one is preferred."""
    notes = []
    while isinstance(content, dict):
        found = [name for name in _CONTAINERS if isinstance(content.get(name), dict)]
        if not found:
            break
        content = content[found[0]]
        if len(found) > 1:
            notes.append(f"the file holds {' and '.join(found)}; took {found[0]}")
    state = {}
    if isinstance(content, dict):
        state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path} holds no tensors; pass a file of model weights")
    for key, tensor in state.items():
        # A number seen through strides of 0 is as large as its shape once it is copied.
        if tensor.layout == torch.strided and tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise WeightsError(f"{path}: '{key}' is {list(tensor.shape)} numbers, of which the file holds fewer")
    return state, notes
