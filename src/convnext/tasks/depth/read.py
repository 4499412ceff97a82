"""Reading and checking the data that a depth estimator is trained on."""

from __future__ import annotations

from typing import NamedTuple

from convnext.data.parts import divide_images, parts_to_train_on
from convnext.data.problems import Problems, log_left_out
from convnext.data.sources.depth_maps import DEPTH_FOLDER, Depths, DepthSet, examine_depths, read_depth_maps
from convnext.data.sources.maps import find_map_parts
from convnext.data.splits import Origin
from convnext.errors import InputError
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.splitting import splitting_of


class DepthData(NamedTuple):
    """Training and validation images, the record of them that is stored with the weights, and what was found wrong."""

    train: DepthSet
    val: DepthSet
    origin: Origin
    faults: Problems


def read_depth_data(config: DepthConfig) -> DepthData:
    """Training and validation data of a run. `InputError` for data of another form."""
    how = splitting_of(config)
    available = find_map_parts(config.data, DEPTH_FOLDER)
    only = parts_to_train_on(config.data, available, how.division)
    parts, faults = read_depth_maps(config.data, config.depth_scale, only)
    train, val, origin = divide_images(config.data, parts, *how)
    return DepthData(train, val, origin, faults)


def usable_images(config: DepthConfig, data: DepthData) -> tuple[tuple[DepthSet, Depths], DepthSet]:
    """The training images and the spread of their depths, and the validation images, whose maps can be used.

    Every depth map is read: what is wrong with one is said before training starts.
    """
    train, spread = examine_depths(data.train, data.faults)
    if spread.least == spread.most:
        raise InputError(f"{config.data}: every depth is {spread.least:g}; there is nothing to learn")
    val, _ = examine_depths(data.val, data.faults)
    log_left_out(config.data, data.faults)
    return (train, spread), val
