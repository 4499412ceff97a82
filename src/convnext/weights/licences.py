"""Licences of weights: their names, what those that restrict use ask for, and how models and files carry them on.

A file's metadata hold the licence under `LICENCE`, and under `LICENCE_FROM` the weights that it came with. What starts
from weights whose licence restricts use has that licence too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.printing import LONGEST_NAME, printable

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("convnext")

LICENCE, LICENCE_FROM = "licence", "licence_from"

RESTRICTIONS = {
    "MIT": "",
    "Apache-2.0": "",
    "BSD-3-Clause": "",
    "CC-BY-NC-4.0": "not for commercial use",
    "DINOv3": "commercial use allowed; derivatives keep the licence; no military, weapons, nuclear or espionage use",
    "FAIR-Noncommercial-Research": "for noncommercial research alone; derivatives keep the licence",
}
"""By name, what a licence asks beyond naming the author; empty where that is all."""

_FREE = {"bsd", "bsd-2-clause", "bsd-3-clause-clear", "isc", "unlicense", "cc0-1.0", "cc-by-4.0", "cc-by-3.0"}
_HUB_NAMES = {"DINOv3": "dinov3-license", "FAIR-Noncommercial-Research": "fair-noncommercial-research-license"}
"""Names at the Hugging Face Hub of licences whose kind there is "other"."""
_NAMES = {name.lower(): name for name in RESTRICTIONS}
_UNSAID = {"", "unknown", "none"}
_said: set[tuple[str, str]] = set()


def licence_named(text: object) -> str:
    """The name of a licence as this project writes it, from the Hub's ("cc-by-nc-4.0"); empty for what names none."""
    if not isinstance(text, str):
        return ""
    name = " ".join(printable(text).split())[:LONGEST_NAME]
    known = _NAMES.get(name.lower()) or _NAMES.get(name.lower().removesuffix("-license"))
    return "" if name.lower() in _UNSAID else known or name


def licence_on_hub(licence: str) -> dict[str, str]:
    """Metadata of a model card on the Hugging Face Hub for a licence; empty without one.

    `licence_named` gives the licence again, from `license_name` or else `license`.
    """
    if not licence:
        return {}
    known = licence in RESTRICTIONS and licence not in _HUB_NAMES
    if known or licence.lower() in _FREE or re.fullmatch(r"cc-by(-n[cd])?(-sa|-nd)?-[234]\.\d", licence.lower()):
        return {"license": licence.lower()}
    return {"license": "other", "license_name": _HUB_NAMES.get(licence, licence)}


def restriction_of(licence: str) -> str:
    """Restriction of a licence beyond naming the author, in a phrase; empty if there is none."""
    if licence in RESTRICTIONS:
        return RESTRICTIONS[licence]
    if not licence or licence.lower() in _FREE:
        return ""
    if re.search(r"\bnc\b", licence.lower()):
        return "not for commercial use"
    return "a licence that this version does not know; read it before use"


def inherited(meta: Mapping[str, Any]) -> dict[str, str]:
    """Metadata that everything made from weights carries on: a licence that restricts use, and whose it is; else
    nothing."""
    licence, source = licence_named(meta.get(LICENCE)), meta.get(LICENCE_FROM)
    if not restriction_of(licence):
        return {}
    origin = {LICENCE_FROM: " ".join(printable(source).split())} if isinstance(source, str) and source else {}
    return {LICENCE: licence, **origin}


def licence_in_words(meta: Mapping[str, Any]) -> str:
    """A phrase on a licence that restricts use, of weights with these metadata; empty for other licences."""
    terms = inherited(meta)
    if not terms:
        return ""
    origin = f", as {terms[LICENCE_FROM]}" if LICENCE_FROM in terms else ""
    return f"licensed {terms[LICENCE]}{origin}: {restriction_of(terms[LICENCE])}"


def warn_of_licence(path: Path, meta: Mapping[str, Any]) -> str:
    """Say in the log that the weights at `path` have a licence that restricts use, once per process and file.

    Returns the phrase on it (`licence_in_words`) every time.
    """
    words = licence_in_words(meta)
    key = (str(path.resolve()), words)
    if words and key not in _said:
        _said.add(key)
        log.warning("%s: %s", path.name, words)
    return words


def note_licence(model: nn.Module, meta: Mapping[str, Any]) -> None:
    """Keep with a model the licence of the weights that were loaded, for `licence_of_model`."""
    model.licence_terms = inherited(meta)  # type: ignore[assignment]  # torch types all attributes as tensors or modules


def licence_of_model(model: nn.Module) -> dict[str, str]:
    """The metadata on a licence that a model's weights, or those of a part of it, came with; empty if there is none."""
    found = (getattr(module, "licence_terms", None) for module in model.modules())
    return next((dict(terms) for terms in found if terms), {})
