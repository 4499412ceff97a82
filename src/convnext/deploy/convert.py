"""Weights from any layout to any other, without loss, with what the other library needs beside them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from convnext.deploy.exchange import Described, timm_config, transformers_config, transformers_processor
from convnext.errors import InputError
from convnext.inference.classifier import usage_of
from convnext.storage.files import whole_file, whole_folder
from convnext.weights import Architecture, describe, save_state
from convnext.weights.files import EMBEDS, RUN_FILE, locate, read_file, read_meta
from convnext.weights.key_tables import STEM, State
from convnext.weights.layouts import DECODER, from_official

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey pixel, as Pillow makes one (ITU-R 601)."""
ORIGINAL = "original"
"""Stands for the layout that the weights came in."""
FOLDERS = ("hf", "dinov3")
"""Layouts that are folders with configuration files."""
NATIVE = ("official", "encoder", "none")
"""Layouts with the official names, of a network and of an encoder inside another; and none at all."""


class Conversion(NamedTuple):
    """Result of `convert`: the file or folder written, its layout, and a note on what was left out or changed."""

    path: Path
    layout: str
    notes: list[str]


def convert(source: str | Path, out: str | Path, layout: str) -> Conversion:
    """Write weights in another layout; every tensor that the network uses stays the same bit by bit.

    Args:
        source: a run directory, a weight file in any layout, published weights by name, or `hf:ORG/NAME`.
        out: for "hf" and "dinov3" a new folder, with configuration files; for "timm" a new folder, or a file with
            `config.json` beside it; for other layouts a file ending in `.safetensors`.
        layout: "official", "timm", "hf" (transformers' ConvNext and ConvNextV2), "dinov3" (transformers'
            DINOv3ConvNext, without a head), "torchvision", "open_clip", "mmpretrain", "isotropic", "fcmae", or
            "original": the one that the weights came in.

    Raises:
        WeightsError: nothing there, or no ConvNeXt.
        InputError: a layout that cannot hold this network, or a place that is taken or cannot be written.
    """
    out, path = Path(out), locate(source)
    state, notes, came_in = read_file(path, decoder=True)
    meta = read_meta(path)
    if came_in not in NATIVE:
        meta = {**meta, "layout": came_in}
    if layout == ORIGINAL:
        layout = meta.get("layout", "official")
    state, meta = _fitting(state, meta, layout, notes)
    architecture = describe(state)
    has_norm = "norm.weight" in state or "norm_pre.weight" in state
    model = replace(_described(architecture, meta), has_norm=has_norm)
    if layout != "official" and architecture.in_chans == 1:
        state, model = _in_colour(state, model, notes)
    if layout in FOLDERS and model.architecture.in_chans != 3:
        raise InputError(f"transformers' processors give 3 channels, and this model takes {architecture.in_chans}")
    tensors = from_official(state, layout)
    if layout in FOLDERS or (layout == "timm" and out.suffix != ".safetensors"):
        with whole_folder(out) as folder:
            _write(folder / RUN_FILE, tensors, model, meta, layout)
    else:
        _write(out, tensors, model, meta, layout)
    return Conversion(out, layout, notes)


def _fitting(state: State, meta: dict[str, Any], layout: str, notes: list[str]) -> tuple[State, dict[str, Any]]:
    """Leave out the tensors and metadata that the layout cannot hold, with a note on each."""
    decoder = [key for key in state if key.startswith(DECODER)]
    keeps = bool(decoder) and layout in ("official", "fcmae")
    if decoder and not keeps:
        state = {key: tensor for key, tensor in state.items() if key not in decoder}
        notes.append(f"left out the {len(decoder)} tensors of the pre-training decoder")
    if layout == "dinov3" and "head.weight" in state:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
        notes.append("left out the head: DINOv3's network has none")
        meta = {**meta, "task": EMBEDS}
    if "head.weight" not in state and not keeps:
        # What is known of a detector or a classifier does not hold for its backbone.
        known = ("preprocessing", "licence", "licence_from", "origin", "layout", "variant", "image_size")
        meta = {key: value for key, value in meta.items() if key in known} | {"task": EMBEDS}
    return state, meta


def _described(architecture: Architecture, meta: dict[str, Any]) -> Described:
    use = usage_of(meta, architecture.num_classes, architecture.in_chans)
    return Described(architecture, *use, meta.get("licence"))


def _in_colour(state: State, model: Described, notes: list[str]) -> tuple[State, Described]:
    """A network for grey images as one for images in colour, which sees of them the grey that Pillow would."""
    stem = state[STEM]
    shares = torch.tensor(LUMA, dtype=stem.dtype)[:, None, None]
    rule = model.preprocessing
    notes.append("the stem for grey images is written for three channels, as the shares of red, green and blue in grey")
    colour = replace(rule, mean=rule.mean * 3, std=rule.std * 3, in_chans=3)
    architecture = replace(model.architecture, in_chans=3)
    return {**state, STEM: stem * shares}, replace(model, architecture=architecture, preprocessing=colour)


def _write(path: Path, tensors: State, model: Described, meta: dict[str, Any], layout: str) -> None:
    meta = {**meta, "preprocessing": model.preprocessing.to_dict()}
    beside = {}
    if layout in FOLDERS:
        beside["config.json"] = transformers_config(model, layout)
        beside["preprocessor_config.json"] = transformers_processor(model.preprocessing)
    elif layout == "timm":
        beside["config.json"] = timm_config(model)
    with ExitStack() as written:  # what is beside the weights is there once they are
        places = {name: path.with_name(name) for name in (path.name, *beside)}
        for place in places.values():
            if place.exists():
                raise InputError(f"{place} exists already; name a new place")
        for name, content in beside.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            written.enter_context(whole_file(places[name])).write_text(text, encoding="utf-8")
        save_state(path, tensors, meta)
