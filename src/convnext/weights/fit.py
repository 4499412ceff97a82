"""Weights onto a model, and from a model into a file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from convnext.errors import WeightsError
from convnext.printing import first_names
from convnext.variants import find_variant
from convnext.weights.architecture import Architecture, describe
from convnext.weights.files import locate, read_file, read_meta, refuse_unusable, save_state
from convnext.weights.key_tables import STEM, State
from convnext.weights.layouts import from_official, to_official
from convnext.weights.licences import licence_of_model, note_licence

log = logging.getLogger("convnext")

LISTED = 20  # keys of one kind named in a message


@dataclass
class LoadReport:
    """Changes that `load_weights` made beyond copying: one sentence each in `notes`."""

    notes: list[str] = field(default_factory=list)


class MismatchError(WeightsError):
    """Weights that do not fit the model; all keys are in `missing`, `unexpected` and `misshapen`."""

    def __init__(self, message: str, missing: list[str], unexpected: list[str], misshapen: list[str]) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.misshapen = missing, unexpected, misshapen


def load_weights(model: nn.Module, source: str | Path) -> LoadReport:
    """Copy weights onto a model with official parameter names; every parameter must fit, but for these:

    - a head of another size, or absent from the file, is left as the model has it; a model without
      a head leaves out the file's. Pre-training files have no last norm either.
    - a stem for other image channels is adapted: for one channel the filters are summed over the file's
      channels; for n channels they are repeated in turn and scaled by m/n, where m is the file's number of
      channels, so that activations keep their size.

    Args:
        model: any module whose parameters have the official names; a masked autoencoder takes its decoder too.
        source: a weight file in any known layout, a run directory, published weights by name, or `hf:ORG/NAME`.

    Returns:
        What was left out, adapted or chosen; also logged.

    Raises:
        WeightsError: unreadable, unsafe, or of numbers that are not finite (see `read_state`).
        MismatchError: missing, unexpected or misshapen keys, all in its attributes; or another model altogether.
    """
    path = locate(source)
    own = model.state_dict()
    names = dict(zip(to_official(own), own, strict=True))  # of a masked autoencoder, the encoder's have a prefix
    state, notes, layout = read_file(path, decoder="mask_token" in own)
    own = {name: own[key] for name, key in names.items()}
    _check_variant(path, state, own, layout)
    refuse_unusable(state)
    kept = _fit_head(state, own, notes)
    _fit_stem(state, own, notes)
    _check_keys(path, state, {key: tensor for key, tensor in own.items() if key not in kept})
    model.load_state_dict({names[name]: tensor for name, tensor in state.items()}, strict=False)
    note_licence(model, read_meta(path))
    for note in notes:
        log.info("%s: %s", path, note)
    return LoadReport(notes)


def save_weights(model: nn.Module, path: str | Path, layout: str = "official", meta: dict | None = None) -> None:
    """Write a model's weights as safetensors, whole or not at all.

    Args:
        model: a classifier of the family (for the official layout, any module).
        path: a file ending in `.safetensors`.
        layout: "official", "timm", "hf" (transformers' ConvNext and ConvNextV2ForImageClassification) or "mmpretrain".
        meta: stored in the header and given back by `read_meta`: task, classes, preprocessing. A licence that
            restricts use, of weights that were loaded onto the model, is added.

    Raises:
        InputError: unknown layout, or a path that cannot be written.
    """
    terms = licence_of_model(model)
    save_state(path, from_official(model.state_dict(), layout), {**terms, **(meta or {})} if terms else meta)


def _describe(state: State) -> Architecture | None:
    try:
        return describe(state)
    except WeightsError:
        return None


def _differences(state: State, own: State) -> tuple[list[str], list[str], list[str]]:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    misshapen = [key for key in own if key in state and state[key].shape != own[key].shape]
    return missing, unexpected, misshapen


def _check_variant(path: Path, state: State, own: State, layout: str) -> None:
    """Say it in one phrase when the file holds another model, instead of listing every key."""
    holds, wants = _describe(state), _describe(own)
    if holds is None:
        known = sum(key in state for key in own)
        if known < len(own) / 2:
            unknown = first_names([key for key in state if key not in own], 3)
            near = f"the nearest layout, {layout}, has no" if layout != "none" else "no layout has a"
            message = f"{path} is not a ConvNeXt: it has {known} of the model's {len(own)} parameter names, and {near}"
            message += f" name for {unknown}"
            raise MismatchError(message, *_differences(state, own))
    elif wants and find_variant(holds.variant).backbone != find_variant(wants.variant).backbone:
        message = f"{path} holds {holds.variant}, the model is {wants.variant}; build a {holds.variant} for it"
        raise MismatchError(message, *_differences(state, own))
    elif wants and holds.stem_patch != wants.stem_patch:
        message = f"{path} has a stem patch of {holds.stem_patch}, the model one of {wants.stem_patch}"
        raise MismatchError(f"{message}; build it with stem_patch={holds.stem_patch}", *_differences(state, own))


_PARTS = {"head.": "head", "pre_logits.": "hidden layer of the head", "norm.": "last norm", "norm_pre.": "last norm"}
"""Layers after the stages, by the prefix of their parameters' names."""


def _fit_head(state: State, own: State, notes: list[str]) -> set[str]:
    """Drop what of head and last norm the model has no place for; the keys that the model keeps as they are."""
    holds, wants = ({part for part in _PARTS if any(key.startswith(part) for key in keys)} for keys in (state, own))
    other = {"pre_logits.", "head."} if ("pre_logits." in holds) != ("pre_logits." in wants) else set()
    for key in [key for key in state if key.startswith(tuple(holds - wants | other))]:
        del state[key]
    dropped = [_PARTS[part] for part in _PARTS if part in holds - wants or part in holds & other]
    absent = [_PARTS[part] for part in _PARTS if part in wants - holds or part in wants & other]
    if dropped := [what for what in dropped if what not in absent]:
        notes.append(f"left out the file's {' and '.join(dropped)}: the model has none")
    if absent:
        notes.append(f"the file has no {' and '.join(absent)}: the model keeps its own, untrained")
    kept = {key for key in own if key.startswith(tuple(wants - holds | other))}
    file_head, head = state.get("head.weight"), own.get("head.weight")
    if file_head is not None and head is not None and len(file_head) != len(head):
        notes.append(f"the file's head of {len(file_head)} classes is replaced by a fresh one of {len(head)}")
        for key in ("head.weight", "head.bias"):
            state.pop(key, None)
            kept.add(key)
    return kept


def _fit_stem(state: State, own: State, notes: list[str]) -> None:
    """Adapt the stem to the model's image channels."""
    weight, target = state.get(STEM), own.get(STEM)
    if weight is None or target is None or weight.ndim != 4 or weight.shape[1] == target.shape[1]:
        return
    given, wanted = weight.shape[1], target.shape[1]
    state[STEM] = _adapt_channels(weight, wanted)
    notes.append(f"the stem is adapted from {given} to {wanted} image channels")


def _adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A stem `[C, m, p, p]` for images of `channels` channels."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    given = weight.shape[1]
    return weight[:, torch.arange(channels) % given] * (given / channels)


def _check_keys(path: Path, state: State, own: State) -> None:
    missing, unexpected, misshapen = _differences(state, own)
    shapes = [f"{key} {list(state[key].shape)} for {list(own[key].shape)}" for key in misshapen]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": shapes}
    if phrases := [f"{kind}: {first_names(keys, LISTED)}" for kind, keys in kinds.items() if keys]:
        message = f"{path} does not fit the model; {'; '.join(phrases)}"
        raise MismatchError(message, missing, unexpected, misshapen)
