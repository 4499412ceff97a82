"""Looking into trained networks, several side by side: what `convnext analyze` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from convnext.analysis.activations import activation_maps, draw_channels
from convnext.analysis.attribution import Method, NothingFound, attribute, draw_attribution
from convnext.analysis.blocks import blocks_of
from convnext.analysis.collapse import block_features
from convnext.analysis.page import write_section
from convnext.analysis.plots import plot_distances, plot_selectivity
from convnext.analysis.selectivity import class_selectivity
from convnext.data.image_set import ImageSet, read_images, read_split
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import Batch, eval_loader
from convnext.data.sources.inputs import expand
from convnext.data.splits import Split
from convnext.errors import ImageError, InputError
from convnext.inference.base import Predictor
from convnext.nn.backbone import ConvNeXt
from convnext.printing import progress
from convnext.reports.sheet import PictureGroup, draw_sheet
from convnext.reports.tables import Table
from convnext.runtime.device import keep_fp32
from convnext.storage.exports import is_export
from convnext.storage.files import make_folder, whole_file
from convnext.tasks.load import load
from convnext.weights.files import locate

SEEN = 224
"""Side of the squares in which the backbone of a network that sees whole images is looked at, in pixels."""


class Opened(NamedTuple):
    """A network to look into: what the user calls it, what answers with it, its backbone, and squares for that."""

    name: str
    predictor: Predictor
    backbone: ConvNeXt
    preprocessing: Preprocessing


def open_networks(sources: Sequence[str], device: str) -> Iterator[Opened]:
    """Networks one after the other. `InputError` for an exported one, of which there are no blocks to see."""
    keep_fp32()
    for source in dict.fromkeys(sources):
        if is_export(locate(source)):
            raise InputError(f"{source} is an export, which cannot be looked into; give the weights it was made from")
        predictor = load(source, device=device, backend="torch")
        backbone: ConvNeXt = getattr(predictor.model, "backbone", predictor.model)
        seen = predictor.transform
        squares = seen if isinstance(seen, Preprocessing) else Preprocessing.standard(SEEN, backbone.in_chans)
        yield Opened(source, predictor, backbone, squares)


def batches_of(network: Opened, images: ImageSet, batch_size: int, workers: int) -> Iterator[Batch]:
    """The images as the network sees them, under a bar. `InputError` if none can be read."""
    readable = 0
    with progress(network.name, len(images)) as advance:
        for batch in eval_loader(images, network.preprocessing, batch_size=batch_size, workers=workers):
            readable += len(batch.indices)
            yield batch
            advance(len(batch.indices))
    if not readable:
        raise InputError("no image can be read")


def collapse(
    sources: Sequence[str],
    data: str,
    out: Path,
    *,
    images: int = 1000,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """How alike the channels of each block are: `collapse.csv`, `collapse.png`, and a section of `index.html`.

    Args:
        sources: run directories, weight files or published names.
        data: folder, table or shards of images; labels are not needed.
        out: folder that is written.
        images: how many, spread over the data.
        batch_size: images computed together.
        workers: processes that load images.
        device: where to compute.

    Returns:
        A row for each source and block: `distance`, `dead` and `saturated` as `analysis.collapse.BlockFeatures`.
    """
    table, samples = Table(out, "collapse.csv"), read_images(data).spread(images)
    rows, distances = [], {}
    for network in open_networks(sources, device):
        batches = (batch.on(network.predictor.device) for batch in batches_of(network, samples, batch_size, workers))
        found = block_features(network.backbone, batches)
        distances[network.name] = [block.distance for block in found]
        rows += [{"source": network.name, **each.place._asdict(), **figures_of(each)} for each in found]
    table.write(rows)
    plot_distances(distances, out / "collapse.png")
    write_section(
        out,
        "collapse",
        title="Feature collapse",
        reading="The distance says how different a block's channels are on an image: near 0 they all show the same, "
        "and the block is as good as one channel. Dead channels never pass GELU, saturated ones always do.",
        pictures=[("collapse.png", "Cosine distance between each block's channels, over the depth of the network")],
        rows=rows,
        images=len(samples),
    )
    return rows


def figures_of(features: Any) -> dict[str, float]:
    """A block's figures by name."""
    return {name: getattr(features, name) for name in ("distance", "dead", "saturated")}


def selectivity(
    sources: Sequence[str],
    data: str,
    out: Path,
    *,
    split: Split | None = None,
    images: int = 1000,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """How much each block's channels answer to one class: `selectivity.csv`, `.png`, and a section of `index.html`.

    Args:
        sources: run directories, weight files or published names.
        data: labelled images, as `train classify` takes them; their classes need not be the networks'.
        out: folder that is written.
        split: part of the data; None: what they hold out, else all.
        images: how many, spread over the data.
        batch_size: images computed together.
        workers: processes that load images.
        device: where to compute.

    Returns:
        A row for each source and block: mean and quarters of its channels' index (`analysis.selectivity`), and the
        share of channels that are never positive, and have none.
    """
    table, samples = Table(out, "selectivity.csv"), read_split(data, split).spread(images)
    rows, spreads = [], {}
    for network in open_networks(sources, device):
        pairs = (
            (batch.on(network.predictor.device), batch.targets)
            for batch in batches_of(network, samples, batch_size, workers)
        )
        found = class_selectivity(network.backbone, pairs)
        spreads[network.name] = found
        for (place, _), index in zip(blocks_of(network.backbone), found, strict=True):
            rows.append({"source": network.name, **place._asdict(), **spread_of(index)})
    table.write(rows)
    plot_selectivity(spreads, out / "selectivity.png")
    write_section(
        out,
        "selectivity",
        title="Class selectivity",
        reading="A channel's index is 1 where it answers to one class alone and 0 where it answers to all alike. "
        "The line is the median of a block's channels, the band goes from quarter to quarter.",
        pictures=[("selectivity.png", "Class selectivity of each block's channels, over the depth of the network")],
        rows=rows,
        images=len(samples),
        index={name: [index.tolist() for index in blocks] for name, blocks in spreads.items()},
    )
    return rows


def spread_of(index: torch.Tensor) -> dict[str, float]:
    """Mean, median and quarters of a block's channels, and the share that has no index."""
    low, median, high = index.nanquantile(torch.tensor([0.25, 0.5, 0.75], dtype=index.dtype)).tolist()
    silent = index.isnan().double().mean().item()
    return {"mean": index.nanmean().item(), "q25": low, "median": median, "q75": high, "silent": silent}


def activations(
    sources: Sequence[str], data: str, out: Path, *, block: int | None = None, images: int = 4, device: str = "auto"
) -> tuple[list[Path], list[str]]:
    """Draw what the channels of a block show of images: a picture for each source and image, and a section of
    `index.html`.

    Args:
        sources: run directories, weight files or published names.
        data: an image, a folder or a pattern.
        out: folder that is written.
        block: number from 1; None is the last.
        images: how many, spread over the data.
        device: where to compute.

    Returns:
        The files, and why images were left out.
    """
    make_folder(out)
    chosen, pictures = spread(list(expand([data])), images), []
    left_out: dict[str, str] = {}
    for number, network in enumerate(open_networks(sources, device), 1):
        place = len(blocks_of(network.backbone)) if block is None else block
        for i, (name, image) in enumerate(opened_images(network.predictor, chosen, left_out), 1):
            inputs = network.preprocessing(image)[None].to(network.predictor.device)
            path = out / f"activations-{number}-{i}.png"
            with whole_file(path) as temporary:
                draw_channels(activation_maps(network.backbone, inputs, place)[0]).save(temporary, format="PNG")
            pictures.append((path.name, f"Channels of block {place} of {network.name} on {name}"))
    write_section(
        out,
        "activations",
        title="Activation maps",
        reading="Each small picture is one channel of the block, from its least value, black, to its largest, white. "
        "Channels that look alike, or are grey, say little.",
        pictures=pictures,
        rows=[],
    )
    return [out / name for name, _ in pictures], list(left_out.values())


def attribution(
    sources: Sequence[str],
    data: str,
    out: Path,
    *,
    label: str | None = None,
    method: Method = "gradcam",
    stage: int = -1,
    images: int = 16,
    device: str = "auto",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Draw what answers rest on: `attribute-N.png` for each source, `attribute.csv`, and a section of `index.html`.

    Args:
        sources: run directories, weight files or published names of classifiers, detectors or segmenters.
        data: an image, a folder or a pattern.
        out: folder that is written.
        label: class that is explained; None is the network's own answer.
        method: as `analysis.attribution.attribute` takes it.
        stage: likewise.
        images: how many, spread over the data.
        device: where to compute.

    Returns:
        A row for each source and image: the class and its score, or what is in the way; and why images were left out.
    """
    table, chosen = Table(out, "attribute.csv"), spread(list(expand([data])), images)
    rows, pictures = [], []
    left_out: dict[str, str] = {}
    for number, network in enumerate(open_networks(sources, device), 1):
        drawn = []
        for name, image in opened_images(network.predictor, chosen, left_out):
            row: dict[str, Any] = {"source": network.name, "image": name, "label": None, "score": None, "problem": None}
            rows.append(row)
            try:
                found = attribute(network.predictor, image, label, method=method, stage=stage)
            except NothingFound as error:
                row["problem"] = str(error)
                continue
            row |= {"label": found.label, "score": found.score}
            drawn.append((draw_attribution(found), f"{found.label} {found.score:.2f}\n{Path(name).name}"))
        path = out / f"attribute-{number}.png"
        draw_sheet([PictureGroup(network.name, drawn)], path)
        if drawn:
            said = ", ".join(caption.replace("\n", " in ") for _, caption in drawn)
            pictures.append((path.name, f"What the answers of {network.name} rest on: {said}"))
    table.write(rows)
    write_section(
        out,
        "attribute",
        title="Class activation",
        reading="Bright places speak for the class that is named; where none are, nothing in the picture does.",
        pictures=pictures,
        rows=rows,
        method=method,
    )
    return rows, list(left_out.values())


def spread(images: list[tuple[str, Any]], count: int) -> list[tuple[str, Any]]:
    """At most `count` images, evenly spaced: the first of a folder are of one class."""
    return images[:: -(-len(images) // count)]


def opened_images(
    predictor: Predictor, images: Sequence[tuple[str, Any]], left_out: dict[str, str]
) -> Iterator[tuple[str, Image.Image]]:
    """Names and images that can be read; others are left out, with the reason by name. `InputError` if none can be."""
    for name, image in images:
        try:
            opened = predictor.read(image)
        except ImageError as error:
            left_out[name] = str(error)
            continue
        yield name, opened
    if len(left_out) == len(images):
        raise InputError(f"no image can be read: {next(iter(left_out.values()))}")
