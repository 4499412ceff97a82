"""FCMAE pre-training (ConvNeXt V2, section 3): hide patches of images, predict their pixels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnext.analysis.collapse import feature_distances
from convnext.analysis.plots import plot_distances, plot_pretraining
from convnext.analysis.probe import probe_accuracy
from convnext.analysis.reconstructions import draw_reconstructions
from convnext.config import fit_batch
from convnext.data.augment.transforms import train_transform
from convnext.data.fingerprint import of_samples
from convnext.data.image_set import ImageSet, read_train_val
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import Batch, eval_loader, train_loader
from convnext.data.splits import HoldOut
from convnext.errors import InputError
from convnext.models.fcmae import FCMAE, create_fcmae
from convnext.models.masking import random_patches
from convnext.nn.visible_patches import VisiblePatches
from convnext.reports.sheet import PictureGroup
from convnext.runs.directory import Run
from convnext.runs.ending import Ending, write_ending
from convnext.runs.facts import add_facts
from convnext.runtime import distributed
from convnext.runtime.device import move
from convnext.storage.files import whole_file
from convnext.tasks.base import Moment, Task, TrainLoader
from convnext.tasks.card.data import describe_part
from convnext.tasks.card.facts import common_facts
from convnext.tasks.card.write import write_card
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.pretrain.fcmae.ending import loss_in_words, weakest_block
from convnext.tasks.supervised import EVAL_BATCH
from convnext.variants import find_variant
from convnext.weights import load_weights

LOOKS = ("feature_distance", "knn", "linear_probe")
DRAWN = 8  # images in a picture of reconstructions
LOOKED_AT = 64  # images over which the feature distance is averaged while training


class Pretraining(Task):
    """Pre-trains on `images`, whose labels, if any, it does not see."""

    def __init__(self, config: PretrainConfig, images: ImageSet) -> None:
        self.config = fit_batch(config, len(images), processes=distributed.count())
        self.train = images
        self.preprocessing = Preprocessing.standard(config.image_size, config.in_chans, config.white)
        self.probe: tuple[ImageSet, ImageSet] | None = None
        if config.probe:  # before training: it may be at fault
            self.probe = read_train_val(
                config.probe, hold_out=HoldOut(rule=config.hold_out_rule), form=config.probe_format
            )[:2]

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the images, whose labels do not count."""
        return of_samples(self.config.data, self.train, labels=False)

    def build_model(self) -> FCMAE:
        """Encoder and decoder; with `init`, the encoder's first weights are those."""
        config = self.config
        model = create_fcmae(
            config.model,
            in_chans=config.in_chans,
            mask_ratio=config.mask_ratio,
            patch_size=config.patch_size,
            decoder_dim=config.decoder_dim,
            decoder_depth=config.decoder_depth,
            norm_pix_loss=config.norm_pix_loss,
            stem_patch=config.stem_patch,
            drop_path_rate=config.drop_path,
            layer_scale_init=config.layer_scale_init,
            checkpointing=config.checkpointing,
            masked_dense=config.encoder == "dense",
        )
        if config.init is not None:
            load_weights(model.encoder, config.init)
        return model

    def train_loader(self) -> TrainLoader:
        """Crops and flips, nothing more (appendix A.1)."""
        config = self.config
        transform = train_transform(
            self.preprocessing, scale=config.crop_scale, hflip=config.hflip, rand_augment=None, random_erasing=0.0
        )
        return train_loader(
            self.train,
            transform,
            mode=self.preprocessing.mode,
            **self.loader_options(),
        )

    def parts(
        self, batch: Batch, device: torch.device, moment: Moment
    ) -> Iterable[tuple[int, tuple[Tensor, VisiblePatches]]]:
        """Draw masks, and cut the batch into `config.accumulate` parts on the device."""
        config = self.config
        side = config.image_size // config.patch_size
        images = batch.on(device)
        # Drawn for the whole batch, so that the masks do not depend on the number of processes.
        drawn = random_patches(
            config.batch_size, (side, side), config.mask_ratio, block=config.mask_block, generator=moment.draws
        )
        own = distributed.own_places(config.batch_size, distributed.rank(), distributed.count())
        index = move(drawn.index[own], device)
        for part, places in zip(images.chunk(config.accumulate), index.chunk(config.accumulate), strict=True):
            yield len(part), (part, VisiblePatches(places, drawn.grid))

    def first_look(self, part: tuple[Tensor, VisiblePatches]) -> Sequence[PictureGroup]:
        """Images of the first batch as the encoder sees them, their hidden patches grey."""
        images, patches = part[0][:DRAWN], part[1]
        hidden = torch.ones(len(images), patches.grid[0] * patches.grid[1], device=images.device)
        hidden = hidden.scatter(1, patches.index[: len(images)], 0.0).view(-1, 1, *patches.grid)
        masked = images.masked_fill(F.interpolate(hidden, scale_factor=float(self.config.patch_size)).bool(), 0.0)
        pictures = [
            (each, "")
            for pair in zip(images, masked, strict=True)
            for each in self.preprocessing.to_images(torch.stack(pair))
        ]
        return (PictureGroup("first training batch, and what the encoder sees of it", pictures),)

    def inputs(self, part: tuple[Tensor, VisiblePatches]) -> list[Tensor]:
        """Images and the places of their visible patches."""
        return [part[0], part[1].index]

    def loss(self, model: Any, part: tuple[Tensor, VisiblePatches]) -> Tensor:
        """Mean squared error of the hidden patches' pixels."""
        return model(*part)[0]

    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int, *, last: bool) -> dict[str, float]:
        """Every `probe_every` epochs: a picture, the features' smallest distance over the layers, and the probes."""
        assert isinstance(model, FCMAE)
        config = self.config
        if (epoch % config.probe_every and not last) or distributed.rank():
            return {}
        images = self.looked_at().to(device)
        draw_reconstructions(
            model, images[:: -(-len(images) // DRAWN)], self.preprocessing, run.path / f"reconstructions-{epoch:04}.png"
        )
        distances = feature_distances(model.encoder, [images])
        run.write_json("feature_distances.json", {**read_distances(run), str(epoch): distances})
        metrics = {"feature_distance": round(min(distances), 4)}
        if self.probe is not None:
            train, val = (self.eval_loader(part) for part in self.probe)
            metrics |= probe_accuracy(model.encoder, train, val, device)
        return metrics

    def looked_at(self) -> Tensor:
        """Images spread over the whole set, so that they are of all its folders; the same ones every time."""
        samples = self.train.spread(LOOKED_AT)
        images = torch.cat([batch.on("cpu") for batch in self.eval_loader(samples)])
        if not len(images):
            raise InputError(f"none of {len(samples)} images spread over the set can be read")
        return images

    def eval_loader(self, samples: ImageSet, batch_size: int = EVAL_BATCH) -> Iterable[Batch]:
        """Images without augmentation, in order."""
        return eval_loader(samples, self.preprocessing, batch_size=batch_size, workers=self.config.workers)

    def meta(self) -> dict[str, Any]:
        """Metadata to build the model again, and to see images as it does."""
        config = self.config
        return {
            "task": "pretrain",
            "mask_ratio": config.mask_ratio,
            "patch_size": config.patch_size,
            "norm_pix_loss": config.norm_pix_loss,
            "preprocessing": self.preprocessing.to_dict(),
        }

    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        """The last picture again, curves, and the model card; returns the last loss and the last look's metrics."""
        rows = run.rows()
        last = rows[-1]["epoch"]
        with whole_file(run.path / "reconstructions.png") as temporary:
            shutil.copyfile(run.path / f"reconstructions-{last:04}.png", temporary)
        distances = read_distances(run)[str(last)]
        plot_distances({"": distances}, run.path / "feature_distances.png")
        plot_pretraining(rows, run.path / "curves.png")
        looked = {name: value for row in rows for name, value in row.items() if name in LOOKS}
        metrics = {"loss": rows[-1]["loss"], **looked}
        run.write_json("result.json", metrics)
        weakest = weakest_block(distances, find_variant(self.config.model).depths)
        probed = 0 if self.probe is None else len(self.probe[1])
        write_ending(run, Ending(loss_in_words(metrics, len(self.train), probed), weakest))
        found = {"data": {"train": describe_part(self.train)}, "excluded": self.train.excluded}
        add_facts(run, {**common_facts(run, self.config, model), **found})
        write_card(run)
        return metrics


def read_distances(run: Run) -> dict[str, list[float]]:
    """By epoch, each block's feature cosine distance, from the first at the stem to the last."""
    path = run.path / "feature_distances.json"
    return json.loads(path.read_text()) if path.is_file() else {}
