"""Common to detection, segmentation and depth: networks on the pyramid of a backbone."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.runtime import distributed
from convnext.runtime.device import is_deterministic, pick_device, synchronises_batch_norm
from convnext.tasks.freezing import drop_path_of, freeze
from convnext.tasks.map_config import MapConfig
from convnext.weights.files import read_meta, read_tensors

log = logging.getLogger("convnext")


def encoder_of(config: TrainConfig) -> dict[str, Any]:
    """Arguments of `create_encoder`; with `init`, its first weights are those."""
    return {
        "drop_path_rate": drop_path_of(config),
        "layer_scale_init": config.layer_scale_init,
        "checkpointing": config.checkpointing,
        "weights": config.init,
    }


def upernet_parts(config: MapConfig) -> dict[str, Any]:
    """Arguments of `UperNet`, of a segmentation or depth run."""
    return {name: getattr(config, name) for name in ("fpn_dim", "aux_dim", "dropout", "head_norm")}


def refuse_single_images(config: Any) -> None:
    """`InputError` for a head normalised by the batch where a part of a step's batch is one image."""
    in_part = -(-config.batch_size // distributed.count() // config.accumulate)
    alone = distributed.count() == 1 or not synchronises_batch_norm(pick_device(config.device))
    if config.head_norm == "batch" and in_part == 1 and alone:
        raise InputError("one image at a time has nothing to normalise a batch by; --head-norm group")


def synchronised(model: nn.Module, device: str) -> nn.Module:
    """With several processes on CUDA, batches are normalised over all of them."""
    together = distributed.count() > 1 and synchronises_batch_norm(pick_device(device))
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if together else model


def refuse_deterministic(config: TrainConfig) -> None:
    """Refuse `--deterministic` on a GPU with an `InputError`: dense tasks have no deterministic operators there."""
    if config.deterministic and not is_deterministic(pick_device(config.device)):
        raise InputError(
            "on a GPU, operators of detection and segmentation have no deterministic form: leave --deterministic out"
        )


def prepared(model: Any, config: TrainConfig) -> nn.Module:
    """A detector or segmenter as it is trained: with what `init` has of it, frozen and synchronised as the config
    says."""
    freeze(config, model.backbone)
    return synchronised(take_over(model, config.init), config.device)


def take_over(model: nn.Module, init: str | None) -> nn.Module:
    """Copy neck and heads of the detector or segmenter `init` onto a model, where name and shape fit; logs how many.

    The backbone is loaded by `create_encoder`.
    """
    if init is None or "parts" not in read_meta(init):
        return model
    own, given = model.state_dict(), read_tensors(init)
    rest = {name: tensor for name, tensor in given.items() if not name.startswith("backbone.")}
    fitting = {name: tensor for name, tensor in rest.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(fitting, strict=False)
    left = sorted({name.split(".")[0] for name in rest.keys() - fitting.keys()})
    log.info("%s: %d of %d tensors of neck and heads fit and are taken", init, len(fitting), len(rest))
    if left:
        log.info("%s: left out what does not fit: %s", init, ", ".join(left))
    return model
