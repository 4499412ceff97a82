"""Images a second of our loader against timm's, with the pre-training and the fine-tuning transforms.

    python benchmarks/loader.py IMAGENETTE [--workers 2] [--repeats 5] [--out TABLE.md] [--json FILE]

Two sets: the folder given, at 128 pixels, and 384 JPEG files of 1500×2000 pixels made from it, at 224. Each side reads
whole epochs in turn, with persistent workers, into float32 batches of 64, augmented and normalised. timm's loader runs
with its prefetcher and without, and the faster of the two counts. Our shards hold the same files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import timm
import torch
from PIL import Image
from tables import table
from timing import machine, medians, say, write_result
from timm.data import create_loader
from timm.data.dataset import ImageDataset

from convnext.data.augment.transforms import mend_posterize, train_transform
from convnext.data.image_set import read_images
from convnext.data.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from convnext.data.loading import train_loader
from convnext.data.shards.pack import pack_shards
from convnext.data.sources.image_files import find_images

BATCH = 64
TRANSFORMS = {
    "pre-training": {"scale": (0.2, 1.0), "erasing": 0.0, "policy": None},
    "fine-tuning": {"scale": (0.08, 1.0), "erasing": 0.25, "policy": "rand-m9-mstd0.5-inc1"},
}
COLUMNS: list[dict] = [
    {"name": "data, transforms"},
    *({"name": f"{side}, images/s", "digits": 0} for side in ("folder", "shards", "timm")),
    {"name": "folder × timm", "digits": 2},
    {"name": "shards × folder", "digits": 2},
]


def make_large(source: Path, folder: Path, count: int = 384) -> Path:
    """JPEG files of 1500×2000 pixels, of ten classes, of the source's photographs scaled up."""
    for number, path in enumerate(find_images(source)[:: 3000 // count][:count]):
        place = folder / str(number % 10) / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").resize((1500, 2000), Image.Resampling.BICUBIC).save(place, quality=90)
    return folder


def ours(data: Path, size: int, how: dict, workers: int) -> Callable[[], None]:
    transform = train_transform(
        Preprocessing.standard(size),
        scale=how["scale"],
        rand_augment=how["policy"],
        random_erasing=how["erasing"],
    )
    loader = train_loader(read_images(data), transform, batch_size=BATCH, workers=workers, seed=0, mode="RGB")
    epochs = iter(range(1000))

    def epoch() -> None:
        loader.set_epoch(next(epochs))
        check((batch.on("cpu") for batch in loader), size)

    return epoch


def theirs(data: Path, size: int, how: dict, workers: int, prefetcher: bool) -> Callable[[], None]:
    loader = create_loader(
        ImageDataset(str(data)),
        (3, size, size),
        BATCH,
        is_training=True,
        use_prefetcher=prefetcher,
        scale=how["scale"],
        re_prob=how["erasing"],
        re_mode="pixel",
        auto_augment=how["policy"],
        color_jitter=None,
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=False,
        device=torch.device("cpu"),
    )
    mend_posterize((loader.loader if prefetcher else loader).dataset.transform.transforms)

    def epoch() -> None:
        check((images for images, _ in loader), size)

    return epoch


def check(batches: Iterable[torch.Tensor], size: int) -> None:
    """Read them all; each is what a network takes."""
    for images in batches:
        assert images.shape == (BATCH, 3, size, size), images.shape
        assert images.dtype == torch.float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Imagenette's folder, with train/")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(1)  # where batches arrive: threads wait by spinning, and the workers need the cores
    head = f"{machine()}; {args.workers} workers; torch {torch.__version__.split('+')[0]}, timm {timm.__version__}; "
    head += f"medians of {args.repeats} epochs"
    print(head, flush=True)
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as scratch:
        large = make_large(args.data / "train", Path(scratch) / "large")
        for name, data, size in (("Imagenette", args.data / "train", 128), ("1500×2000", large, 224)):
            shards = Path(scratch) / f"{name}-shards"
            pack_shards(str(data), shards, labels=False, shard_bytes=256 * 10**6)
            count = len(find_images(data)) // BATCH * BATCH
            for kind, how in TRANSFORMS.items():
                sides = [ours(data, size, how, args.workers), ours(shards, size, how, args.workers)]
                sides += [theirs(data, size, how, args.workers, prefetcher) for prefetcher in (False, True)]
                times = medians(sides, args.repeats)
                folder, tar, peer = (count / time * 1e3 for time in (*times[:2], min(times[2:])))
                rows.append([f"{name} at {size}, {kind}", folder, tar, peer, folder / peer, tar / folder])
                say(COLUMNS, rows)
    if args.out:
        text = ["# Speed of loading images", "", f"{head}.", "", "Command: `python benchmarks/loader.py IMAGENETTE`."]
        args.out.write_text("\n".join([*text, "", *table(COLUMNS, rows), ""]))
    if args.json:
        title = "Images a second of our loader against timm's"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, seed=0, peers=("timm",), note=head)


if __name__ == "__main__":
    main()
