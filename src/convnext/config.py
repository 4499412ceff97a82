"""What a training run is: one flat, immutable record, returned whole by a recipe and stored in the run.

Every field is a flag of the command line (`base_lr` is `--base-lr`), with the help given here.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_type_hints

from convnext.errors import InputError, nearest
from convnext.parsing import fits, parse

log = logging.getLogger("convnext")


def loading_processes() -> int:
    """Default number of processes that load images: all cores but two beside an NVIDIA GPU, else two.

    The system is asked for a GPU, not torch, which takes a second to import.
    """
    return max(2, (os.cpu_count() or 1) - 2) if Path("/dev/nvidia0").exists() else 2


def option(default: Any, help: str) -> Any:
    """A field with its help text."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainConfig:
    """What every task's training needs; the loop reads these and nothing else."""

    TASK: ClassVar[str]
    OLD_RULE: ClassVar[int] = 1
    """The `hold_out_rule` of runs made when there was no such option."""
    FIXED: ClassVar[tuple[str, ...]] = ()
    """Fields that have but one value in this task."""

    recipe: str = option("", "the recipe these values came from")
    data: str = option("", "the data to train on")
    model: str = option("convnextv2_atto", "a name of `convnext models`")
    init: str | None = option(None, "weights to start from: run directory, file, published name or hf:ORG/NAME")
    in_chans: Literal[1, 3] = option(3, "channels images are read with: 3 colour, 1 grey")
    white: int = option(65535, "value of 16-bit images that is white: 4095 where they hold 12 bits")
    stem_patch: Literal[1, 2, 4] = option(4, "side of the stem's patches; 2 or 1 for small images")
    image_size: int = option(224, "side of the square images the network sees, in pixels")
    drop_path: float = option(0.0, "stochastic depth of the last block")
    layer_scale_init: float = option(1e-6, "first value of V1's LayerScale")

    epochs: int = option(100, "passes over the training images")
    batch_size: int = option(64, "images in one step of the optimizer")
    accumulate: int = option(1, "parts a step's batch is computed in, to save memory")
    base_lr: float = option(1e-3, "learning rate for a batch of 256; it scales with the batch")
    min_lr: float = option(1e-6, "learning rate at the end")
    warmup_epochs: float = option(0.0, "epochs of linear warm-up")
    warmup_steps: int | None = option(None, "steps of linear warm-up, instead of epochs")
    milestones: tuple[int, int] | None = option(
        None, "two epochs after which the learning rate falls to a tenth; none: it falls by `decay`"
    )
    decay: Literal["cosine", "linear"] = option("cosine", "how the learning rate falls")
    weight_decay: float = option(0.05, "AdamW's decay, of weights only: not biases, norms, GRN or LayerScale")
    betas: tuple[float, float] = option((0.9, 0.999), "AdamW's betas")
    muon: float | None = option(
        None, "use Muon for the inner matrices, at so many times AdamW's rate; none: AdamW for all"
    )
    layer_decay: float = option(1.0, "factor on the learning rate for each layer below the head")
    layer_groups: Literal["single", "group", "stage"] = option(
        "single", "what a layer is: a block, or of the third stage three, or a stage"
    )
    clip_grad: float | None = option(None, "largest norm of the gradient")
    ema: float | None = option(None, "decay of the averaged weights that are evaluated and kept")

    save_every: int | None = option(None, "steps between checkpoints; none: one at the end of each epoch")
    keep: int = option(2, "checkpoints kept")
    max_nonfinite: int = option(10, "steps in a row with a loss or gradient that is not finite before the run stops")
    max_unreadable: float = option(0.1, "share of the training images that may be unreadable before the run stops")

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "type of the activations; auto: bf16 on a GPU that is fast in it, else fp32"
    )
    compile: bool | None = option(None, "torch.compile the network; auto: on a GPU, where the run is long")
    cuda_graph: bool = option(True, "on a GPU, record a step once and start it whole, where its images have one size")
    checkpointing: bool = option(False, "recompute activations to save memory")
    workers: int = field(
        default_factory=loading_processes,
        metadata={"help": "processes that load images; without: two, or beside a GPU all cores but two"},
    )
    parallel: Literal["auto", "ddp", "fsdp"] = option(
        "auto", "over several processes: ddp copies the network to each, fsdp splits it; auto: fsdp for the largest"
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps")
    deterministic: bool = option(False, "the same bits every time on a GPU too, more slowly; a CPU gives them anyway")
    seed: int = option(0, "of every random choice")
    hold_out_rule: Literal[0, 1, 2] = option(
        2, "how images are held out where the data does not say: 2 by a hash of each one's path; 0, 1 as older runs did"
    )

    def override(self, changes: dict[str, Any]) -> Self:
        """A copy with some fields changed; strings are read as the field's type. `InputError` if one cannot be."""
        hints, known = get_type_hints(type(self)), [f.name for f in dataclasses.fields(self)]
        values = {}
        for name, value in changes.items():
            if name not in known:
                raise InputError(f"no option '{name}'; {nearest(name, known)}")
            values[name] = parse(name, value, hints[name]) if isinstance(value, str) else value
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a run's `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`, after a trip through JSON. `ValueError` for a value of another type."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"config.json has options this version does not know: {', '.join(unknown)}")
        values = {"hold_out_rule": cls.OLD_RULE, **values}
        as_fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        hints = get_type_hints(cls)
        for name, value in as_fields.items():
            if not fits(value, hints[name]):
                raise ValueError(f"{name} cannot be {value!r}")
        return cls(**as_fields)

    def __post_init__(self) -> None:
        """`InputError` for values that cannot work, before anything is loaded."""
        for name in ("epochs", "batch_size", "accumulate", "image_size", "keep", "max_nonfinite"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("base_lr", "weight_decay", "drop_path", "warmup_epochs", "workers"):
            if not getattr(self, name) >= 0:  # nor nan
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 1 <= self.white <= 65535:
            raise InputError(f"white must lie between 1 and 65535, not {self.white}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, not {self.seed}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must lie in [0, 1), not {self.betas}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"ema must lie between 0 and 1, not {self.ema}")
        if self.save_every is not None and self.save_every < 1:
            raise InputError(f"save_every must be at least 1, not {self.save_every}")
        if not 0 <= self.max_unreadable <= 1:
            raise InputError(f"max_unreadable must lie in [0, 1], not {self.max_unreadable}")
        if not 0 <= self.drop_path < 1:
            raise InputError(f"drop_path must lie in [0, 1), not {self.drop_path}")


@dataclass(frozen=True)
class ClassifyConfig(TrainConfig):
    """A classification run."""

    TASK: ClassVar[str] = "classify"

    val_fraction: float = option(0.2, "share held out for validation where the data has no split of its own")
    multi_label: bool = option(False, "images of a table may have several labels")
    crop: float | None = option(
        None, "centre crop's share of the resized image in evaluation; 1 warps; none: 0.875 below 384 pixels, else 1"
    )
    crop_scale: tuple[float, float] = option((0.08, 1.0), "share of the image's area a training crop takes")
    hflip: float = option(0.5, "probability of a horizontal flip")
    rand_augment: str | None = option("rand-m9-mstd0.5-inc1", "timm's RandAugment policy")
    color_jitter: float = option(0.0, "strength of colour jitter")
    random_erasing: float = option(0.25, "probability of erasing a rectangle")
    mixup: float = option(0.0, "mixup's alpha")
    cutmix: float = option(0.0, "cutmix's alpha")
    label_smoothing: float = option(0.1, "probability moved from the label to all classes")
    class_weights: Literal["none", "balanced"] = option("none", "weigh classes by the inverse of their count")
    head_init_scale: float = option(1.0, "factor on the new head's first weights")
    freeze_backbone: bool = option(False, "train the head alone (linear probe)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multi_label and (self.mixup or self.cutmix or self.label_smoothing):
            raise InputError("mixup, cutmix and label smoothing need one label an image; set them to 0 for multi_label")
        if not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction must lie between 0 and 1, not {self.val_fraction}")


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """An FCMAE pre-training run."""

    TASK: ClassVar[str] = "pretrain"

    mask_ratio: float = option(0.6, "share of patches hidden")
    patch_size: int = option(32, "side of the patches that are hidden, in pixels; a multiple of the network's stride")
    mask_block: int = option(1, "hide squares of so many patches a side together")
    encoder: Literal["visible", "dense"] = option("visible", "compute visible patches alone, or whole maps and a mask")
    decoder_dim: int = option(512, "the decoder's width")
    decoder_depth: int = option(1, "the decoder's blocks")
    norm_pix_loss: bool = option(True, "predict pixels normalised patch by patch")
    crop_scale: tuple[float, float] = option((0.2, 1.0), "share of the image's area a training crop takes")
    hflip: float = option(0.5, "probability of a horizontal flip")
    look_every: int = option(20, "epochs between pictures of reconstructions, and between probes")
    probe: str | None = option(None, "labelled data, as `train classify` takes, to measure kNN and a linear probe on")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patch_size", "mask_block", "decoder_dim", "decoder_depth", "look_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        stride, patch, size = 8 * self.stem_patch, self.patch_size, self.image_size
        if patch % stride:
            raise InputError(f"patch_size must be a multiple of {stride} at stem_patch {self.stem_patch}, not {patch}")
        if size % patch:
            down = max(size // patch * patch, patch)
            raise InputError(
                f"image_size {size} is no multiple of patch_size {patch}; {down} or {down + patch} would do"
            )
        if not 0 < self.mask_ratio < 1:
            raise InputError(f"mask_ratio must lie between 0 and 1, not {self.mask_ratio}")
        patches = (size // patch) ** 2
        if not 0 < int(patches * (1 - self.mask_ratio)) < patches:
            raise InputError(
                f"mask_ratio {self.mask_ratio} leaves all or none of {patches} patches visible; "
                "change it, or take a smaller patch_size or a larger image_size"
            )

    def follow_up(self, run: Path) -> str:
        """The command that trains a classifier from this run."""
        shared = ("model", "image_size", "stem_patch", "in_chans")
        default = PretrainConfig()
        flags = [
            f"--{name.replace('_', '-')} {getattr(self, name)}"
            for name in shared
            if name == "model" or getattr(self, name) != getattr(default, name)
        ]
        return f"convnext train classify FOLDER {' '.join(flags)} --init {run} --out RUN"


@dataclass(frozen=True)
class DetectConfig(TrainConfig):
    """A detection run; `image_size` is the side of the jitter's square."""

    TASK: ClassVar[str] = "detect"
    OLD_RULE: ClassVar[int] = 0
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch")

    val_fraction: float = option(0.2, "share held out for validation where the data has no split of its own")
    masks: bool = option(True, "draw outlines too; false: boxes alone")
    negatives: bool = option(False, "train on images without objects too")
    cascade: bool = option(False, "Cascade R-CNN's three stages, with GIoU, instead of one")
    agnostic: bool = option(False, "one box for all classes instead of one for each")
    fpn_dim: int = option(256, "channels of the feature pyramid and the heads")
    linear_dim: int = option(1024, "width of the box heads' linear layers")
    box_convs: int = option(0, "convolutions in the box heads")
    mask_convs: int = option(4, "convolutions in the mask heads")
    head_norm: Literal["batch", "group", "none"] = option("none", "norm of the box heads' convolutions")
    anchor_scale: float = option(8.0, "side of an anchor in strides of its map: smaller for small objects")
    regions: int = option(512, "regions of an image that a box head learns from, a quarter of them on objects")
    soft_nms: bool = option(False, "soft-NMS instead of NMS")
    jitter: tuple[float, float] | None = option(
        (0.1, 2.0), "large-scale jitter, from and to; none: whole images at random short sides"
    )
    short_sides: tuple[int, int] = option((480, 800), "without jitter, short sides in training, from and to, by 32")
    test_short: int = option(800, "short side in evaluation and prediction, in pixels")
    max_side: int = option(1333, "most pixels of the long side")
    hflip: float = option(0.5, "probability of a horizontal flip")
    vflip: float = option(0.0, "probability of a vertical flip")
    colour: float = option(0.0, "strength of changes of brightness, contrast and saturation")
    eval_every: int = option(1, "epochs between evaluations; the last is always evaluated")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fpn_dim", "linear_dim", "regions", "test_short", "max_side", "eval_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("box_convs", "mask_convs", "colour"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not self.anchor_scale > 0:
            raise InputError(f"anchor_scale must be positive, not {self.anchor_scale}")
        for name in ("jitter", "short_sides"):
            pair = getattr(self, name)
            if pair is not None and not 0 < pair[0] <= pair[1]:
                raise InputError(f"{name} takes two positive numbers, the smaller first, not {pair}")
        if not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction must lie between 0 and 1, not {self.val_fraction}")
        if self.in_chans != 3 or self.stem_patch != 4:
            raise InputError("detection takes in_chans 3 and stem_patch 4")


@dataclass(frozen=True)
class SegmentConfig(TrainConfig):
    """A segmentation run; `image_size` is the side of the crops."""

    TASK: ClassVar[str] = "segment"
    OLD_RULE: ClassVar[int] = 0
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch")

    val_fraction: float = option(0.2, "share held out for validation where the data has no split of its own")
    ignore_index: int = option(255, "number of pixels in a label map that are ignored")
    reduce_zero_label: bool = option(False, "0 in a label map is ignored, and 1 the first class (ADE20K)")
    label_map: str | None = option(None, 'JSON file that says which class a number is: {"17": "cat", "0": null}')
    epoch_steps: int | None = option(None, "steps that make an epoch; none: one pass over the images")
    fpn_dim: int = option(512, "channels of the pyramid network")
    aux_dim: int = option(256, "channels of the auxiliary head")
    aux_weight: float = option(0.4, "weight of the auxiliary head's loss")
    dropout: float = option(0.1, "before the classifying layers")
    head_norm: Literal["batch", "group"] = option("batch", "norm of the head; group for batches of one or two images")
    short_side: int = option(512, "short side of a training image before the crop, times `scale`")
    max_side: int = option(2048, "most pixels of the long side, times `scale`")
    scale: tuple[float, float] = option((0.5, 2.0), "random factor on a training image's size, from and to")
    most_of_a_class: float = option(0.75, "share of a crop that one class may have, else it is drawn again")
    hflip: float = option(0.5, "probability of a horizontal flip")
    photometric: bool = option(True, "change brightness, contrast, saturation and hue")
    loss: Literal["cross_entropy", "ohem"] = option("cross_entropy", "of all pixels, or of the hard ones")
    dice: float = option(0.0, "weight of the Dice loss beside it")
    class_weights: Literal["none", "root", "balanced"] = option(
        "none", "weigh classes by the inverse of their pixels, or of the square root of them"
    )
    test_short: int = option(512, "short side in evaluation and prediction, in pixels")
    window: int | None = option(None, "side of a window that slides over test images; none: they are seen whole")
    stride: int | None = option(None, "the window's steps; none: two thirds of it")
    eval_every: int = option(1, "epochs between evaluations; the last is always evaluated")

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("fpn_dim", "aux_dim", "short_side", "max_side", "test_short", "eval_every")
        for name in (*sizes, "epoch_steps", "window", "stride"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("aux_weight", "dice"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale takes two positive numbers, the smaller first, not {self.scale}")
        for name, low, high in (("val_fraction", 0, 1), ("most_of_a_class", 0, 1.01), ("dropout", -0.01, 1)):
            if not low < getattr(self, name) < high:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.stride is not None and (self.window is None or self.stride > self.window):
            raise InputError("stride goes with a window, and is at most as large")
        if self.in_chans != 3 or self.stem_patch != 4:
            raise InputError("segmentation takes in_chans 3 and stem_patch 4")


Config = TypeVar("Config", bound=TrainConfig)


def fit_batch(config: Config, images: int, *, processes: int = 1, even: bool = False) -> Config:
    """The config with a batch no larger than the training set, the same for each process, and `even` for mixup's pairs.

    `InputError` for a batch that does not divide among the processes, or into the parts it is to be computed in.
    """
    unit = processes * (2 if even else 1)
    batch = min(config.batch_size, images)
    if batch < config.batch_size or processes == 1:
        batch -= batch % unit
    if batch % unit or not batch:
        down = max(batch // unit * unit, unit)
        raise InputError(
            f"a batch of {batch} does not divide among {processes} processes{' in pairs' if even else ''}; "
            f"--batch-size {down} or {down + unit} would"
        )
    if batch // processes < config.accumulate:
        raise InputError(f"accumulate {config.accumulate} needs at least as many images in a batch, not {batch}")
    if batch != config.batch_size:
        log.info("batch size %d instead of %d: there are %d training images", batch, config.batch_size, images)
    return dataclasses.replace(config, batch_size=batch)
