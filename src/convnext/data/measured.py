"""Choice of the images that a model is measured on, by the data's parts and by what its training held out of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePath

from convnext.data.splits import UNDIVIDED, HoldOut, Origin, Split, held_out_part, part_of_name, whole_key
from convnext.errors import InputError

log = logging.getLogger("convnext")


def measured_parts(data: object, available: Collection[str], split: Split | None) -> tuple[str, ...]:
    """The parts of some data that `split` means; with None, what is held out, else all there is.

    The others are named in the log. `InputError` for a part that is not there.
    """
    held_out = held_out_part(available)
    if split == "all" or set(available) == {UNDIVIDED} or (split is None and held_out is None):
        return tuple(available)
    part = held_out if split in (None, "val") and held_out is not None else split
    if part is None or part not in available:
        raise InputError(f"{data} has no {split} part; it has {', '.join(available)}")
    if others := [other for other in available if other != part]:
        log.info("%s: measured on %s; left out: %s", data, part, " and ".join(others))
    return (part,)


def parts_to_read(
    data: object, available: Collection[str], split: Split | None, origin: Origin | None
) -> tuple[str, ...]:
    """The parts of some data that have to be read for measuring a model of this origin (`choose_measured`)."""
    own = origin is not None and origin.divides_anew and split in (None, "train", "val")
    parts = tuple(part for part in available if part != "test") if own else ()
    return parts or measured_parts(data, available, split)


def choose_measured(
    data: object,
    parts: Sequence[str],
    keys: Sequence[str],
    groups: Sequence[str] | None,
    *,
    split: Split | None,
    origin: Origin | None,
    content: Callable[[int], bytes],
) -> tuple[list[int], str]:
    """For measuring: which images, and what they are called.

    Without a split it is what the model's training held out of them, else what the data themselves hold out, else all.
    Images that its training left out are not measured either, but by "all". What is left out is said in the log.
    `InputError` for a part that is not there.
    """
    chosen, name = _held_out_anew(data, parts, keys, split, origin, content) or ([], "")
    if not name:
        wanted = measured_parts(data, dict.fromkeys(parts), split)
        chosen, name = [i for i, part in enumerate(parts) if part in wanted], wanted[0] if len(wanted) == 1 else "all"
        if name == UNDIVIDED:
            chosen, name = choose_undivided(data, keys, groups, split=split, origin=origin, content=content)
    if origin is not None and split != "all":
        chosen = origin.without_left_out(data, chosen, parts, keys, content)
    return chosen, name


def _held_out_anew(
    data: object,
    parts: Sequence[str],
    keys: Sequence[str],
    split: Split | None,
    origin: Origin | None,
    content: Callable[[int], bytes],
) -> tuple[list[int], str] | None:
    """The images that a division that was asked for held out; None for other models, data or splits.

    A part of the data alone, as `FOLDER/val`, is known by its name and by any image of the sample: a fold has held out
    others than the data themselves.
    """
    if origin is None or origin.hold_out is None or not origin.divides_anew or split not in (None, "train", "val"):
        return None
    own = [i for i, part in enumerate(parts) if part != "test"]
    names = [whole_key(parts[i], keys[i]) for i in own]
    if not origin.is_of(names, lambda at: content(own[at])):
        part = part_of_name(PurePath(str(data)).name) if set(parts) == {UNDIVIDED} else None
        names = [whole_key(part or UNDIVIDED, keys[i]) for i in own]
        if part is None or not origin.known(names, lambda at: content(own[at])):
            return None
    held = origin.hold_out.held(names)
    chosen = [i for i, is_held in zip(own, held, strict=True) if is_held == (split != "train")]
    if not chosen and split is None:
        log.warning("%s: the model was trained on these images", data)
        return own, "all"
    which = "the model was trained on" if split == "train" else "were held out of the model's training"
    log.info("%s: measured on the %d of %d images that %s", data, len(chosen), len(parts), which)
    return chosen, split or "val"


def choose_undivided(
    data: object,
    keys: Sequence[str],
    groups: Sequence[str] | None,
    *,
    split: Split | None,
    origin: Origin | None,
    content: Callable[[int], bytes],
) -> tuple[list[int], str]:
    """For measuring on data that do not say what is held out: which images, and what they are called.

    Without a split it is what was held out when the model was trained on them, and all of data it was not trained on.
    What is left out is said in the log. `InputError` for the test part.
    """
    everything = list(range(len(keys)))
    if split == "test":
        raise InputError(f"{data} has no test part, for it does not say what is held out; --split all takes all of it")
    own = origin is not None and origin.is_of(keys, content)
    if split == "all" or (split is None and not own):
        return everything, "all"
    rule = origin.hold_out if own and origin is not None else HoldOut().settled(keys, groups)
    if rule is None:
        log.warning("%s: the model was trained on these images", data)
        return everything, "all"
    chosen = [i for i, held in enumerate(rule.held(keys, groups)) if held == (split != "train")]
    kind = "leaves for training" if split == "train" else "holds out of training"
    count = f"the {len(chosen)} of {len(keys)} images that a hash of their names {kind}"
    log.info("%s: measured on %s; --split all takes all", data, count)
    return chosen, split or "val"
