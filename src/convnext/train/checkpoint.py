"""All state of a training run, written whole or not at all while training goes on.

A checkpoint is a folder of safetensors files, one from each process, and `state.json`. It is written by
torch.distributed.checkpoint, and so any number of processes can read what another number wrote; in safetensors, as
that library's own format is read by unpickling.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from convnext.errors import InputError
from convnext.runtime import distributed
from convnext.runtime.signals import signals_wait
from convnext.storage.files import writing

STATE = "state.json"
NUMBER = (int, float)
STATE_TYPES: dict[str, type | tuple[type, ...]] = {
    **{"epoch": int, "step": int, "counted": int, "nonfinite_in_a_row": int, "losses": NUMBER, "best_score": NUMBER},
    **{"scaler": dict, "unreadable": dict},
}
"""Keys of a training state, `state.json`, and the types of their values. Checkpoints of earlier releases lack the keys
"files", "data" and "spent", which are checked where they are."""
FINGERPRINT_TYPES: dict[str, type | tuple[type, ...]] = {"images": int, "classes": list, "digest": str}
"""Keys of the fingerprint of training data in a training state, and the types of their values."""

log = logging.getLogger("convnext")


def tensors_of(
    model: nn.Module, beside: Mapping[str, nn.Module], optimizers: Iterable[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Content of a checkpoint for a model, of modules beside it and of optimizers, by name; the tensors themselves, so
    that loading fills them."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for prefix, module in beside.items():
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
    return tensors


class Checkpoints:
    """The checkpoints of a run, in `folder`; the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.pending: Future | None = None
        # Its own group: it talks while training does.
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if distributed.count() > 1 else None

    def save(self, epoch: int, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Copy all state, and write it in the background. `InputError` if the one before could not be written."""
        self.finish()
        name = name_of(epoch, step)
        unfinished = self.folder / f".{name}"
        if distributed.rank() == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        distributed.wait()
        _hush()
        with signals_wait():  # of a thread half started, Python does not know at the program's end, and waits for ever
            future = dcp.async_save(
                cast(dict[str, Any], tensors),
                storage_writer=_Writer(unfinished, self.folder / name, state, self.keep),
                process_group=self.group,
                no_dist=self.group is None,
            )
            self.pending = cast(Future, future)

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk. `InputError` if it could not be written."""
        pending, self.pending = self.pending, None
        try:
            if pending is not None:
                pending.result()
        except (CheckpointException, OSError, SafetensorError) as error:
            for unfinished in self.folder.glob(".epoch-*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise InputError(f"cannot write a checkpoint to {self.folder}: {_reason(error)}") from error
        except RuntimeError as error:
            if not distributed.is_peer_failure(error):
                raise
            raise InputError(f"another process failed while {self.folder} was written") from error

    def load(self, model: nn.Module, beside: Mapping[str, nn.Module], optimizers: list[torch.optim.Optimizer]) -> dict:
        """Fill a model, modules beside it and optimizers from the last checkpoint that is not damaged.

        Returns its `state.json`.

        `InputError` where all are damaged, or of another network.
        """
        path = self.choose()
        try:
            state = read_checkpoint_state(path)
            reader = dcp.HuggingFaceStorageReader(str(path))
            saved = reader.read_metadata().state_dict_metadata
            _make_room(model, optimizers, saved)
            tensors = tensors_of(model, beside, optimizers)
            if differing := sorted(tensors.keys() ^ saved.keys()):
                raise InputError(f"checkpoint {path} is of another network: {differing[0]}")
            _hush()
            dcp.load(
                cast(dict[str, Any], tensors),
                storage_reader=reader,
                process_group=self.group,
                no_dist=self.group is None,
            )
        except (CheckpointException, OSError, ValueError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read checkpoint {path}: {_reason(error)}") from error
        return state

    def choose(self) -> Path:
        """The last checkpoint that is not damaged, the same for all processes. `InputError` if all are."""
        found, said = None, []
        if distributed.rank() == 0:
            for path in reversed(checkpoints(self.folder)):
                if (fault := damage(path)) is None:
                    found = path
                    break
                said.append(f"{path} is damaged: {fault}")
        found, said = distributed.gather((found, said))[0]
        if found is None:
            raise InputError(f"no checkpoint can be resumed; {said[0]}" if said else f"{self.folder}: no checkpoint")
        for line in said:
            log.warning("%s; the one before is taken", line)
        return found

    def set_aside_after(self, epoch: int, step: int) -> None:
        """Rename the checkpoints after that one, all damaged: they would count as the last ones, which are kept, and
        the whole ones before them be deleted."""
        for path in checkpoints(self.folder):
            if path.name > name_of(epoch, step):
                aside = path.with_name(f"damaged-{path.name}")
                with writing(aside):
                    shutil.rmtree(aside, ignore_errors=True)
                    os.replace(path, aside)
                log.warning("what is left of %s is kept as %s", path.name, aside)


class _Writer(dcp.HuggingFaceStorageWriter):
    """Writes to `unfinished`, which takes the place of `final` when every process has written its part."""

    def __init__(self, unfinished: Path, final: Path, state: dict[str, Any], keep: int) -> None:
        super().__init__(str(unfinished), save_distributed=True)
        self.unfinished, self.final, self.state, self.kept = unfinished, final, state, keep

    def finish(self, metadata: Any, results: Any) -> None:
        """Called by the first process, when all have written."""
        files = {path.name: checksum(path) for path in sorted(self.unfinished.iterdir())}
        state = {**self.state, "files": files}
        with open(self.unfinished / STATE, "w", encoding="utf-8") as file:
            json.dump({**state, "checksum": zlib.crc32(json.dumps(state).encode())}, file)
            file.flush()
            os.fsync(file.fileno())
        if self.final.exists():
            remove(self.final)
        os.replace(self.unfinished, self.final)
        for old in checkpoints(self.final.parent)[: -self.kept]:
            remove(old)


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return value


def read_checkpoint_state(path: Path) -> dict[str, Any]:
    """A checkpoint's `state.json`. `InputError` where it is damaged."""
    try:
        state = json.loads((path / STATE).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{STATE} cannot be read ({_reason(error)})") from None
    if not is_state(state):
        raise InputError(f"{STATE} lacks what it should hold")
    known = state.pop("checksum", None)
    lacks = known is None and "spent" in state  # checkpoints of before, which have no "spent", may have none
    if lacks or (known is not None and known != zlib.crc32(json.dumps(state).encode())):
        raise InputError(f"{STATE} has changed since it was written")
    return state


def is_state(state: Any) -> bool:
    """Whether a document has the keys of a training state, with values of the right types."""
    if not holds(state, STATE_TYPES) or not holds(state.get("files", {}), {}):
        return False
    if not isinstance(state.get("spent", 0.0), NUMBER):
        return False
    data = state.get("data", {"images": 0, "classes": [], "digest": ""})
    if not holds(data, FINGERPRINT_TYPES):
        return False
    return all(isinstance(text, str) for text in [*state["unreadable"].values(), *data["classes"]])


def holds(document: Any, types: Mapping[str, type | tuple[type, ...]]) -> bool:
    """Whether a document is a mapping with these keys, and values of these types."""
    return isinstance(document, dict) and all(isinstance(document.get(key), kind) for key, kind in types.items())


def damage(path: Path) -> str | None:
    """The first fault found in a checkpoint's files, by their checksums, in words; None if they are whole."""
    try:
        for name, known in read_checkpoint_state(path).get("files", {}).items():
            if checksum(path / name) != known:
                return f"{name} has changed since it was written"
        for file in path.glob("*.safetensors"):
            with safe_open(file, "pt"):
                pass
    except InputError as error:
        return str(error)
    except (OSError, SafetensorError) as error:
        return _reason(error)
    return None


def name_of(epoch: int, step: int) -> str:
    """Name of the checkpoint after a step; with the epoch, as a run may stop at one's last step and before its end."""
    return f"epoch-{epoch:05}-step-{step:010}"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, the last one last."""
    return sorted(path for path in folder.glob("epoch-*") if (path / STATE).is_file())


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; while that goes on it is not taken for a whole one."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    os.replace(checkpoint, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _make_room(model: nn.Module, optimizers: list[torch.optim.Optimizer], saved: dict[str, Any]) -> None:
    """Give the optimizers the state that a checkpoint holds of theirs, as yet without values."""
    owners = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    for name, stored in saved.items():
        kind, _, rest = name.partition(".")
        parameter, _, key = rest.rpartition(".")
        if kind == "optimizer" and parameter in parameters:
            like = parameters[parameter]
            scalar = tuple(stored.size) != tuple(like.shape)
            value = (
                torch.zeros(stored.size, device=like.device)
                if scalar
                else torch.zeros_like(like, memory_format=torch.preserve_format)
            )
            if like in owners:
                owners[like].state[like][key] = value


def _hush() -> None:
    # Not catch_warnings: the library warns that there is one process from a thread of its own, and later.
    warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)


def _reason(error: BaseException) -> str:
    """Why, in one line: the first process's own error."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error) or type(error).__name__).splitlines()[0]
