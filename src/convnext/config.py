"""Configuration of a training run: one flat, immutable record, returned whole by a recipe and stored in the run.

Every field is a flag of the command line (`base_lr` is `--base-lr`), with the help given here.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_type_hints

from convnext.cores import usable_cores
from convnext.errors import InputError, nearest
from convnext.options import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    BELOW_ONE,
    BETWEEN,
    NOT_NEGATIVE,
    POSITIVE,
    RANGE,
    ZERO_TO_ONE,
    Bounds,
    check_bounds,
    option,
)
from convnext.parsing import fits, parse, plain

log = logging.getLogger("convnext")


def loading_processes() -> int:
    """Default number of processes that load images: all cores but two beside an NVIDIA GPU, else two,
    and no more than there are cores.

    The system is asked for a GPU, not torch, which takes a second to import.
    """
    cores = len(usable_cores())
    return min(cores, max(2, cores - 2) if Path("/dev/nvidia0").exists() else 2)


RENAMED = {
    "agnostic": "class_agnostic",
    "decay": "lr_decay",
    "jitter": "scale_jitter",
    "keep": "keep_checkpoints",
    "look_every": "probe_every",
    "muon": "muon_lr_scale",
    "regions": "rois_per_image",
    "test_short": "test_size",
}
"""Old names of options, which are taken for one release more, and their new ones."""


@dataclass(frozen=True)
class TrainConfig:
    """Options of every task's training; the loop reads these and nothing else."""

    TASK: ClassVar[str]
    OLD_RULE: ClassVar[int] = 1
    """The `hold_out_rule` of runs made when there was no such option."""
    FIXED: ClassVar[tuple[str, ...]] = ()
    """Fields that have but one value in this task."""

    recipe: str = option("", "the recipe these values came from")
    data: str = option("", "the data to train on")
    model: str = option("convnextv2_atto", "a name of `convnext models`", group="model", common=True)
    init: str | None = option(
        None,
        "initial weights: run directory, file, published name or hf:ORG/NAME; none: random",
        group="model",
        common=True,
    )
    in_chans: Literal[1, 3] = option(3, "channels that images are read with: 3 for colour, 1 for grey", group="model")
    white: int = option(
        65535,
        "pixel value of 16-bit images that counts as white: 4095 where they hold 12 bits",
        group="data",
        within=Bounds("lie between 1 and 65535", lambda value: 1 <= value <= 65535),
    )
    stem_patch: Literal[1, 2, 4] = option(
        4,
        "side of the patches that the network's first layer (stem) takes, in pixels; 2 or 1 for small images",
        group="model",
    )
    image_size: int = option(
        224, "side of the square images the network sees, in pixels", group="model", common=True, within=AT_LEAST_ONE
    )
    drop_path: float = option(
        0.0,
        "drop path (stochastic depth): probability of the last block, which rises from 0 at the first",
        group="model",
        within=BELOW_ONE,
    )
    freeze_backbone: bool = option(
        False,
        "train only what lies above the backbone: a classifier's head (a linear probe), neck and heads of other models",
        group="model",
    )
    layer_scale_init: float = option(
        1e-6, "initial value of LayerScale, which V1 has", group="model", within=NOT_NEGATIVE
    )
    depthwise_init: Literal["normal", "smooth"] = option(
        "normal",
        "random initial weights of depthwise kernels: normal as published, or smooth and larger, like trained ones",
        group="model",
    )

    epochs: int = option(100, "passes over the training images", common=True, within=AT_LEAST_ONE)
    batch_size: int = option(
        64,
        "images in one step of the optimizer; auto: as many as fit into memory",
        common=True,
        or_auto=True,
        within=AT_LEAST_ONE,
    )
    accumulate: int = option(
        1,
        "parts that the batch of a step is computed in, one after the other, to save memory (gradient accumulation)",
        group="machine",
        within=AT_LEAST_ONE,
    )
    base_lr: float = option(
        1e-3, "learning rate for a batch of 256; it scales with the batch", common=True, within=NOT_NEGATIVE
    )
    min_lr: float = option(1e-6, "learning rate at the end of training", within=NOT_NEGATIVE)
    warmup_epochs: float = option(0.0, "epochs of linear warm-up", within=NOT_NEGATIVE)
    warmup_steps: int | None = option(None, "steps of linear warm-up; none: --warmup-epochs", within=NOT_NEGATIVE)
    milestones: tuple[int, int] | None = option(
        None,
        "two epochs after which the learning rate falls to a tenth; none: it falls as --lr-decay says",
        within=RANGE,
    )
    lr_decay: Literal["cosine", "linear"] = option("cosine", "shape of the learning rate's fall after warm-up")
    weight_decay: float = option(
        0.05, "AdamW's weight decay, of all parameters but biases, norms, GRN and LayerScale", within=NOT_NEGATIVE
    )
    betas: tuple[float, float] = option(
        (0.9, 0.999), "AdamW's two betas", within=Bounds("lie in [0, 1)", lambda pair: all(map(BELOW_ONE.allow, pair)))
    )
    muon_lr_scale: float | None = option(
        None,
        "train the matrices inside the network with Muon, at this multiple of AdamW's learning rate; none: AdamW for "
        "all",
        within=POSITIVE,
    )
    layer_decay: float = option(
        1.0,
        "factor on the learning rate for each layer below the head; --layer-groups says what a layer is",
        within=ABOVE_ZERO,
    )
    layer_groups: Literal["single", "group", "stage"] = option(
        "single",
        "unit of --layer-decay; single: each block; group: three blocks of the third stage, each other stage whole; "
        "stage: each stage",
    )
    clip_grad: float | None = option(
        None, "largest norm of the gradient, to which larger ones are clipped; none: no clipping", within=POSITIVE
    )
    ema: float | None = option(
        None,
        "decay of averaged weights (EMA), which are then evaluated and kept; none: no averaging",
        common=True,
        within=BETWEEN,
    )

    hours: float | None = option(
        None,
        "hours that the training may take in all, over which its schedule is stretched; none: --epochs alone decides",
        common=True,
        within=POSITIVE,
    )
    patience: int | None = option(
        None,
        "early stopping: end after so many evaluations in a row without a better score; none: never",
        common=True,
        within=AT_LEAST_ONE,
    )
    save_every: int | None = option(
        None, "steps between checkpoints; none: one at the end of each epoch", group="machine", within=AT_LEAST_ONE
    )
    keep_checkpoints: int = option(2, "how many of the last checkpoints are kept", group="machine", within=AT_LEAST_ONE)
    max_nonfinite: int = option(
        10,
        "steps in a row with a loss or gradient that is not finite before the run stops",
        group="machine",
        within=AT_LEAST_ONE,
    )
    max_unreadable: float = option(
        0.1,
        "share of the training images that may be unreadable before the run stops",
        group="data",
        within=ZERO_TO_ONE,
    )

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        "number type of the activations (mixed precision); auto: bf16 on a GPU that is fast in it, else fp32",
        group="machine",
        common=True,
    )
    compile: bool | None = option(
        None, "use torch.compile; none or auto: on a GPU, where the run is long", group="machine"
    )
    cuda_graph: bool = option(
        True, "on a GPU, record a step as a CUDA graph and replay it, where all images have one size", group="machine"
    )
    checkpointing: bool = option(False, "recompute activations in the backward pass, to save memory", group="machine")
    workers: int = option(
        loading_processes,
        "processes that load images; without: two, or beside a GPU all cores but two",
        group="machine",
        common=True,
        within=NOT_NEGATIVE,
    )
    parallel: Literal["auto", "ddp", "fsdp"] = option(
        "auto",
        "how several processes train: ddp copies the network to each, fsdp splits it; auto: fsdp for the largest",
        group="machine",
    )
    device: str = option("auto", "device that computes: auto, cpu, cuda, cuda:1, mps", group="machine", common=True)
    deterministic: bool = option(
        False, "give the same bits every time on a GPU too, more slowly; a CPU gives them anyway", group="machine"
    )
    seed: int = option(
        0,
        "seed of all random numbers",
        group="machine",
        common=True,
        within=Bounds("lie between 0 and 2**63 - 1", lambda value: 0 <= value < 2**63),
    )
    track: Literal["none", "wandb", "mlflow"] = option(
        "none", "service that gets curves, options and final metrics too, beside TensorBoard's files", group="machine"
    )
    exclude: str | None = option(
        None,
        "file that lists images to leave out: what `convnext check` writes, any table with a column path, or one path "
        "a line",
        group="data",
        common=True,
    )
    hold_out_rule: Literal[0, 1, 2] = option(
        2,
        "how images are held out where the data has no split of its own; 2: by a hash of each path; 0, 1: as older "
        "runs",
        group="data",
    )

    @classmethod
    @functools.cache
    def types(cls) -> dict[str, Any]:
        """The type of each field by its name."""
        return get_type_hints(cls)

    def override(self, changes: dict[str, Any]) -> Self:
        """A copy with some fields changed; strings are read as the field's type, and paths, lists and NumPy's numbers
        become what `config.json` can hold. `InputError` for a value of another type."""
        hints, known = self.types(), [f.name for f in dataclasses.fields(self)]
        values = {}
        for name, value in changes.items():
            if name not in known and RENAMED.get(name) in known:
                log.warning("option %s is called %s now; the old name goes with the next release", name, RENAMED[name])
                name = RENAMED[name]
            if name not in known:
                raise InputError(f"no option '{name}'; {nearest(name, known)}")
            value = plain(value)
            values[name] = parse(name, value, hints[name]) if isinstance(value, str) else value
            if not fits(values[name], hints[name]):
                raise InputError(f"{name} cannot be {value!r}")
        return dataclasses.replace(self, **values)

    def refuse_unused(self, given: Collection[str]) -> None:
        """`InputError` for an option, of the names `given`, that changes nothing beside the values of the others."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a run's `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`, after a trip through JSON. `ValueError` for a value of another type."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {name if name in known else RENAMED.get(name, name): value for name, value in values.items()}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"config.json has options this version does not know: {', '.join(unknown)}")
        values = {"hold_out_rule": cls.OLD_RULE, **values}
        as_fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        hints = cls.types()
        for name, value in as_fields.items():
            if not fits(value, hints[name]):
                raise ValueError(f"{name} cannot be {value!r}")
        try:
            return cls(**as_fields)
        except InputError as error:
            raise InputError(f"config.json: {error}") from error

    def __post_init__(self) -> None:
        """`InputError` for values that cannot work, before anything is loaded."""
        for known in dataclasses.fields(self):
            if known.name in self.FIXED and (value := getattr(self, known.name)) != known.default:
                raise InputError(f"{known.name} of a {self.TASK} run is always {known.default}, not {value}")
        check_bounds(self)


@dataclass(frozen=True)
class SupervisedConfig(TrainConfig):
    """A training that is measured on validation images."""

    eval_every: int = option(
        1, "epochs between evaluations; the last is always evaluated", group="data", within=AT_LEAST_ONE
    )
    val_fraction: float = option(
        0.2,
        "share of the images held out for validation, where the data has no split of its own",
        group="data",
        common=True,
        within=BETWEEN,
    )
    group_by: str | None = option(
        None,
        "hold out together the images of one group: folder, a column of DATA's table or of metadata.csv, or a regular "
        "expression over paths; none: each image by itself",
        group="data",
        common=True,
    )
    stratify: bool = option(False, "keep each class's share in the held-out images", group="data", common=True)
    fold: str | None = option(
        None,
        "fold to hold out, as K/N: the K-th of N, as in `convnext cross-validate`; none: --val-fraction",
        group="data",
        common=True,
    )
    time_column: str | None = option(
        None,
        "hold out the newest images, by this column of dates in DATA's table or metadata.csv; none: not by time",
        group="data",
    )


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
