"""A backbone's stages in OpenVINO's operators, built from a network in memory: no export, no file, no compiler.

Maps are channels-last, as in `nn.backbone`, and the operators stand in its order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from convnext.errors import InputError
from convnext.inference.backends.openvino import CompiledModel
from convnext.nn.backbone import ConvNeXt
from convnext.nn.block import Block
from convnext.nn.norm import EPS, GRN, LayerNorm, RMSNorm, StdNorm
from convnext.runtime.device import DTYPES, Precision

LAST = np.array([-1])
POSITIONS = np.array([1, 2])
FIRST, CHANNELS_LAST = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])


class OpenvinoStages:
    """The stages of a backbone on a CPU, called with images of which no side needs padding.

    Args:
        backbone: the network; its weights are copied.
        precision: "fp32" or "bf16", of the computation and the maps.
    """

    def __init__(self, backbone: ConvNeXt, precision: Precision) -> None:
        model, self.dtype = stages_model(backbone), DTYPES[precision]
        last = openvino.Model(model.outputs[-1:], model.get_parameters(), "last stage")
        self.all, self.last = (CompiledModel(each, precision, torch.get_num_threads()) for each in (model, last))

    def __call__(self, images: Tensor, last_only: bool = False) -> list[Tensor]:
        """Normalised images `[N, C, H, W]` to each stage's map `[N, H/s, W/s, C]`, or the last one's alone."""
        model = self.last if last_only else self.all
        maps = model(np.ascontiguousarray(images.float().numpy()))
        return [torch.from_numpy(each).to(self.dtype) for each in maps]


def stages_model(backbone: ConvNeXt) -> openvino.Model:
    """The backbone from images `[N, C, H, W]`, H and W multiples of its stride, to the map of each stage."""
    images = op.parameter([-1, backbone.in_chans, -1, -1], np.float32, name="images")
    x, maps = op.transpose(images, CHANNELS_LAST), []
    for downsample, stage in zip(backbone.downsample_layers, backbone.stages, strict=True):
        for layer in (*downsample.children(), *stage.children()):
            x = _layer(layer, x)
        maps.append(x)
    return openvino.Model(maps, [images], "stages")


def _layer(layer: nn.Module, x: Any) -> Any:
    match layer:
        case Block():
            return _block(layer, x)
        case nn.Conv2d():
            return _convolution(layer, x)
        case LayerNorm():
            centred = op.mvn(x, LAST, True, layer.eps, "inside_sqrt")
            return op.add(op.multiply(centred, _constant(layer.weight)), _constant(layer.bias))
        case RMSNorm() | StdNorm():
            return _scale_norm(layer, x)
        case nn.GELU():
            return op.gelu(x, "erf")
    raise InputError(f"backend 'openvino' has no {type(layer).__name__}: take backend 'torch'")


def _block(block: Block, x: Any) -> Any:
    branch = _layer(block.norm, _convolution(block.dwconv, x))
    branch = op.gelu(_linear(block.pwconv1, branch), "erf")
    if block.grn is not None:
        branch = _grn(block.grn, branch)
    branch = _linear(block.pwconv2, branch)
    if block.gamma is not None:
        branch = op.multiply(branch, _constant(block.gamma))
    return op.add(x, branch)


def _grn(grn: GRN, x: Any) -> Any:
    gx = op.reduce_l2(x, POSITIONS, True)
    nx = op.divide(gx, op.add(op.reduce_mean(gx, LAST, True), np.float32(EPS)))
    scale = op.add(op.multiply(nx, _constant(grn.gamma)), np.float32(1))
    return op.add(op.multiply(x, scale), _constant(grn.beta))


def _scale_norm(norm: RMSNorm | StdNorm, x: Any) -> Any:
    centred, divisor = x, norm.weight.numel()
    if isinstance(norm, StdNorm):
        centred, divisor = op.subtract(x, op.reduce_mean(x, LAST, True)), divisor - 1
    square = op.divide(op.reduce_sum(op.multiply(centred, centred), LAST, True), np.float32(divisor))
    return op.multiply(op.divide(x, op.sqrt(op.add(square, np.float32(norm.eps)))), _constant(norm.weight))


def _linear(linear: nn.Linear, x: Any) -> Any:
    return op.add(op.matmul(x, _constant(linear.weight), False, True), _constant(linear.bias))


def _convolution(conv: nn.Conv2d, x: Any) -> Any:
    padding = [int(side) for side in conv.padding]
    where = (list(conv.stride), padding, padding, list(conv.dilation))
    x, weight = op.transpose(x, FIRST), conv.weight
    if conv.groups == 1:
        x = op.convolution(x, _constant(weight), *where)
    else:
        x = op.group_convolution(x, _constant(weight.unflatten(0, (conv.groups, -1))), *where)
    x = op.transpose(x, CHANNELS_LAST)
    return x if conv.bias is None else op.add(x, _constant(conv.bias))


def _constant(values: Tensor) -> Any:
    return op.constant(values.detach().float().cpu().numpy())
