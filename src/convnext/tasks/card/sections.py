"""Sections of a run's card. None is left empty: what was not measured says with which command it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from convnext.config import TrainConfig
from convnext.models.cost import count_macs
from convnext.printing import counted, shown_name
from convnext.reports.card import (
    MOST_ROWS,
    NOT_STATED,
    Section,
    code_block,
    code_span,
    escaped,
    listed_facts,
    markdown_table,
    names,
    pictures_of,
)
from convnext.reports.citations import bibtex
from convnext.tasks.card.about import ABOUT
from convnext.tasks.card.groups import by_group, intervals_of, weakest_groups
from convnext.tasks.card.stored import Stored
from convnext.tasks.recipes import RECIPES
from convnext.variants import find_variant
from convnext.weights.calibration import CALIBRATION

MACHINE = {"recipe", "init", "data", "model", "device", "workers", "track", "keep_checkpoints", "save_every"}
"""Options that say nothing of the model, or are said elsewhere."""


def lead(stored: Stored) -> str:
    """The model and its result, in two sentences."""
    config = stored.config
    variant = find_variant(config.model)
    reached = f" Result: {escaped(stored.ending.reached)}." if stored.ending.reached else ""
    return f"ConvNeXt V{variant.version} {stored.words.architecture}, trained by `convnext {stored.command}`.{reached}"


def all_of(stored: Stored) -> list[Section]:
    """All sections in their order."""
    written = (
        ("Model", model),
        ("Uses", uses),
        ("How to use it", how_to_use),
        ("Data", data),
        ("Training", training),
        ("Results", results),
        ("Calibration", calibration),
        ("Results by group", by_group),
        ("Robustness", under_corruptions),
        ("Known failures and limits", failures),
        ("Speed and size", speed),
        ("Energy", energy),
        ("Citation", citation),
    )
    return [Section(title, write(stored)) for title, write in written]


def stated(stored: Stored, name: str) -> str:
    """A person's statement, or that there is none, and where it would stand."""
    value = stored.about.get(name)
    return f"{NOT_STATED} (`{name}` in `{ABOUT}`)" if value in (None, "") else escaped(str(value))


def model(stored: Stored) -> str:
    """Network, size, input and output."""
    config = stored.config
    variant, classes = find_variant(config.model), stored.classes
    megabytes = stored.run.weights.stat().st_size / 1e6
    side = config.image_size
    macs = count_macs(config.model, side, in_chans=config.in_chans, stem_patch=config.stem_patch)
    restricted = stored.ending.licence
    facts = [
        ("Network", f"`{config.model}`, ConvNeXt V{variant.version} {stored.words.architecture}"),
        ("Parameters", f"{stored.parameters / 1e6:.2f} million"),
        ("Multiply-adds", f"{macs / 1e9:.3g} billion for the backbone and an image of {side}×{side} pixels"),
        ("Weights", f"`model.safetensors`, {megabytes:.1f} MB"),
        ("Input", seen(stored)),
        ("Output", f"{counted(len(classes), 'class', 'classes')}: {names(classes)}" if classes else ""),
        ("Started from", first_weights(config)),
        ("Licence", escaped(restricted) if restricted else stated(stored, "license")),
        ("Developed by", stated(stored, "developer")),
        ("Funded by", stated(stored, "funder")),
        ("Contact", stated(stored, "contact")),
        ("Language", "none: the model reads images alone"),
    ]
    return listed_facts(facts)


def first_weights(config: TrainConfig) -> str:
    """First weights of the training, and what of them stayed fixed."""
    weights = code_span(shown_name(config.init)) if config.init else "random weights"
    return f"{weights}, the backbone frozen" if config.freeze_backbone else weights


def seen(stored: Stored) -> str:
    """How an image becomes the network's input."""
    config, how = stored.config, stored.meta.get("preprocessing") or {}
    colours = "RGB" if config.in_chans == 3 else "grey"
    if "image_size" not in how:
        crops = f"crops of {config.image_size}×{config.image_size} pixels"
        return f"{colours} images, trained on {stored.words.trained_on or crops}"
    side, crop = how["image_size"], how.get("crop", 1.0)
    filtered = how.get("interpolation", "bicubic")
    resized = f"the short side resized to {int(side / crop)} pixels ({filtered}), then the centre {side}×{side}"
    if crop == 1:
        resized = f"the whole of each warped to {side}×{side} pixels ({filtered})"
    mean, std = (", ".join(f"{value:.3f}" for value in how.get(name, ())) for name in ("mean", "std"))
    return f"{colours} images, {resized}; mean {mean}, deviation {std}"


def uses(stored: Stored) -> str:
    """Purpose, and use that follows from facts."""
    restricted = stored.ending.licence
    limits = [stored.words.out_of_scope, f"Use that its licence forbids: {escaped(restricted)}." if restricted else ""]
    if stored.about.get("out_of_scope"):
        limits.append(escaped(str(stored.about["out_of_scope"])))
    facts = [
        ("Purpose", stated(stored, "purpose")),
        ("What it was trained for", stored.words.intended),
        ("Out of scope", " ".join(limit for limit in limits if limit)),
    ]
    return listed_facts(facts)


def how_to_use(stored: Stored) -> str:
    """Python and the command line, run in the run's folder."""
    return f"In the folder of this file, where `convnext` is installed:\n\n{code_block(stored.words.snippet, 'python')}"


def data(stored: Stored) -> str:
    """Counts, classes, sizes and sources of the images."""
    described = stored.facts.get("data", {})
    lines = [
        ("Source", stated(stored, "data_source")),
        ("Licence of the images", stated(stored, "data_license")),
        ("Name", code_span(shown_name(stored.config.data))),
    ]
    for name, part in described.items():
        forms = ", ".join(f"{count:,} {form}" for form, count in part.get("forms", {}).items())
        sizes = part.get("sizes")
        least, middle, most = ([f"{width}×{height}" for width, height in sizes]) if sizes else ("", "", "")
        text = counted(part["images"], "image") + (f" ({forms})" if forms else "")
        lines.append((name, text + (f"; {least} to {most} pixels, the median {middle}" if sizes else "")))
    copies = stored.facts.get("copies")
    if "copies" in stored.facts:
        found = "not looked for: it would have taken longer than the card may" if copies is None else f"{copies:,}"
        lines.append(("Validation images that are copies of training images, byte for byte", found))
    if stored.config.exclude is not None:
        count, file = counted(stored.facts.get("excluded", 0), "image"), code_span(shown_name(stored.config.exclude))
        lines.append(("Left out of training and validation", f"{count}, by {file}"))
    if how := how_divided(stored.config):
        lines.append(("Validation images", how))
    unreadable = stored.run.path / "unreadable.txt"
    if unreadable.is_file():
        bad = len(unreadable.read_text(errors="replace").splitlines())
        lines.append(("Training images that could not be read", f"{bad:,}, in `unreadable.txt`"))
    counts = [part["classes"] for part in described.values() if part.get("classes")]
    if not counts:
        return listed_facts(lines)
    labels = list(dict.fromkeys(label for part in counts for label in part))
    parts = [name for name, part in described.items() if part.get("classes")]
    rows = [[escaped(label), *(f"{own.get(label, 0):,}" for own in counts)] for label in labels[:MOST_ROWS]]
    rest = _more_classes(labels)
    head = ["class", *(f"{stored.words.unit}, {name}" for name in parts)]
    return f"{listed_facts(lines)}\n\n{markdown_table(head, rows)}{rest}"


def how_divided(config: Any) -> str:
    """The division into training and validation that was asked for, in words; empty where none was."""
    group_by, fold = getattr(config, "group_by", None), getattr(config, "fold", None)
    time_column = getattr(config, "time_column", None)
    parts = [
        f"fold {escaped(fold)}" if fold else "",
        f"the newest by `{escaped(time_column)}`" if time_column else "",
        f"whole groups by {code_span(group_by)}" if group_by else "",
        "classes in their shares" if getattr(config, "stratify", False) else "",
    ]
    return ", ".join(part for part in parts if part)


def training(stored: Stored) -> str:
    """Recipe, what differs from it, time and machine."""
    config, where = stored.config, stored.environment
    rows = stored.run.rows()
    hours = sum(row.get("seconds", 0) for row in rows) / 3600
    devices = ", ".join(where.get("devices") or []) or "none"
    facts = [
        ("Recipe", f"`{config.recipe}`"),
        ("Length", f"{stored.run.duration().rstrip(',')} in batches of {config.batch_size}, seed {config.seed}"),
        ("First and last loss", f"{rows[0]['loss']:.4f}, {rows[-1]['loss']:.4f}" if rows else ""),
        ("Began", str(where.get("started", "not recorded by this version"))),
        ("Ended", str(stored.facts.get("ended", "not recorded by this version"))),
        ("Hours", f"{hours:.2f} of training"),
        ("Hardware", f"{where.get('processor', '')}, {where.get('threads', '?')} threads; accelerators: {devices}"),
        ("Provider", stated(stored, "provider")),
        ("Software", ", ".join(f"{name} {where[name]}" for name in ("convnext", "torch", "python") if name in where)),
    ]
    different = differing(stored)
    if not different:
        return f"{listed_facts(facts)}\n\nEvery option is the recipe's."
    table = markdown_table(["option", "here", "in the recipe"], different)
    return f"{listed_facts(facts)}\n\nOptions that differ from the recipe:\n\n{table}"


def differing(stored: Stored) -> list[list[str]]:
    """Options that differ from the recipe's: name, value here, value there."""
    recipe = RECIPES.get(stored.config.recipe)
    if recipe is None:
        return []
    there = recipe(stored.config.model).to_dict()
    here = stored.config.to_dict()
    own = {name: value for name, value in here.items() if name not in MACHINE and value != there.get(name)}
    return [[f"`{name}`", shown_value(value), shown_value(there.get(name))] for name, value in own.items()]


def shown_value(value: Any) -> str:
    """An option's value: of places the last part, of numbers six digits."""
    if isinstance(value, str):
        value = shown_name(value)
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return escaped(json.dumps(value))


def results(stored: Stored) -> str:
    """Metrics with intervals, by class, and curves."""
    metrics = {name: value for name, value in stored.metrics.items() if isinstance(value, int | float)}
    intervals = intervals_of(stored)
    rows = [[name, f"{value:.4f}"] for name, value in metrics.items()]
    if intervals:
        ends = [intervals.get(name) for name in metrics]
        rows = [[*row, f"{each[0]:.4f} to {each[1]:.4f}" if each else ""] for row, each in zip(rows, ends, strict=True)]
    head = ["metric", "value", *(["95 % interval"] if intervals else [])]
    parts = [markdown_table(head, rows), stored.words.explained]
    if not intervals and stored.measured:
        parts.append("Intervals were not computed: `convnext evaluate . DATA --by folder --out .` does.")
    if stored.by_class:
        head = list(stored.by_class[0])
        measure = stored.words.measure
        ordered = sorted(stored.by_class, key=lambda row: (row[stored.words.unit] == "0", _number(row[measure])))
        words = stored.meta.get("descriptions") or {}
        table = markdown_table(
            head, [[escaped(words.get(row[n], row[n])) for n in head] for row in ordered[:MOST_ROWS]]
        )
        which = f"The weakest classes first, by `{measure}`"
        which += f", {MOST_ROWS} of {len(ordered)}" if len(ordered) > MOST_ROWS else ""
        parts.append(f"{which}:\n\n{table}")
    parts.append(pictures_of(stored.run.path, stored.words.pictures))
    return "\n\n".join(part for part in parts if part)


def _more_classes(rows: Sequence[object]) -> str:
    """Line below a table of `MOST_ROWS` classes that counts the others; empty where there are none."""
    return f"\n\nand {len(rows) - MOST_ROWS} more classes" if len(rows) > MOST_ROWS else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def calibration(stored: Stored) -> str:
    """How far scores can be trusted."""
    fit = stored.meta.get(CALIBRATION)
    if fit is None:
        if not stored.calibrates:
            return ""
        return "Not fitted: `convnext evaluate . DATA --calibrate` does, unless there are too many scores to keep."
    picture = pictures_of(stored.run.path, [("reliability.png", "accuracy by score and by share answered")])
    if "temperature" in fit:
        text = (
            f"The expected calibration error is {fit['ece']:.2f} %, the Brier score {fit['brier']:.4f}. "
            f"With a temperature of {fit['temperature']:.3f} (`predict --calibrated`) they are "
            f"{fit['ece_calibrated']:.2f} % and {fit['brier_calibrated']:.4f}, each half of {fitted_on(fit)} "
            "measured at the other half's temperature."
        )
    else:
        rows = [
            [escaped(name), f"{score:.3f}", f"{f1:.1f}"]
            for name, score, f1 in zip(stored.classes, fit["thresholds"], fit["f1"], strict=True)
        ]
        table = markdown_table(["class", "least score", "F1 at it, %"], rows[:MOST_ROWS]) + _more_classes(rows)
        how = f"for the highest F1 on {fitted_on(fit)} (`predict --calibrated`)"
        text = f"Scores from which an answer counts, {how}:\n\n{table}"
    return f"{text}\n\n{picture}".rstrip()


def fitted_on(fit: Mapping[str, Any]) -> str:
    """The images that a calibration was fitted to, in words: those of the run, or which `evaluate --calibrate` took."""
    if "data" not in fit:
        return f"the {counted(fit['images'], 'validation image')}"
    return f"the {counted(fit['images'], 'image')} of {code_span(fit['data'])} ({escaped(fit['split'])})"


def under_corruptions(stored: Stored) -> str:
    """The metric under corruptions."""
    if not stored.robustness:
        return "Not measured: `convnext analyze robustness . DATA --out .` does." if stored.measured else ""
    row = stored.robustness[0]
    rows = [[escaped(name), value] for name, value in row.items() if value and name not in ("source", "metric")]
    picture = pictures_of(stored.run.path, [("robustness.png", "the metric by corruption and severity")])
    table = markdown_table(["", row.get("metric", "")], rows)
    return "\n\n".join(part for part in (corrupted_images(stored.robustness_of), table, picture) if part)


def corrupted_images(settings: Mapping[str, Any]) -> str:
    """Sentence on the images that were corrupted; empty where that is not known."""
    if not settings:
        return ""
    part = f" ({escaped(settings['split'])})" if settings["split"] else ""
    return f"Measured on {counted(settings['images'], 'image')} of {code_span(shown_name(settings['data']))}{part}."


def failures(stored: Stored) -> str:
    """Weakest classes and groups, and what is not known."""
    facts = [("Weakest", escaped(stored.ending.weakest) or "not known"), *weakest_groups(stored)]
    facts.append(("Not known", "how it does on other cameras, places, people or things than those of the images above"))
    return listed_facts(facts)


def speed(stored: Stored) -> str:
    """Latency, throughput and memory, as `convnext card` measured them."""
    found = stored.facts.get("speed")
    if not found:
        return "Not measured: `convnext card .` does, in 20 seconds at most."
    each = found.get("images_per_s")
    how = f"{counted(found['threads'], 'thread')}, PyTorch in fp32, not compiled"
    facts = [
        ("One image", f"{found['latency_ms']:.1f} ms"),
        ("In batches of 16", f"{each:.1f} images a second" if each else found.get("batches", "not measured")),
        ("Peak memory", f"{found['memory_mb']:.0f} MB" if found.get("memory_mb") else "not known on this system"),
        (
            "Measured on",
            f"{escaped(found['processor'])}, {how}",
        ),
    ]
    return f"{listed_facts(facts)}\n\n`convnext benchmark .` compares formats and precisions."


def energy(stored: Stored) -> str:
    """Energy and CO₂ of the training."""
    found = stored.facts.get("energy")
    if not found:
        return "Not recorded: the run was made by a version that did not."
    facts = [
        ("Energy", f"{found['kwh']:.3g} kWh"),
        ("CO₂", f"{found['grams']:.3g} g"),
        ("How it was found", f"{escaped(found['how'])}. `{ABOUT}` may state `watts` and `carbon_intensity`."),
    ]
    return listed_facts(facts)


def citation(stored: Stored) -> str:
    """Papers and data as BibTeX."""
    version = find_variant(stored.config.model).version
    keys = list(dict.fromkeys(["convnext", *(["convnextv2"] if version == 2 else []), *stored.words.papers]))
    own = stored.about.get("data_citation")
    text = bibtex(keys) + (f"\n\n{own}" if own else "")
    said = "" if own else f"\n\nThe images: {stated(stored, 'data_citation')}."
    return code_block(text, "bibtex") + said
