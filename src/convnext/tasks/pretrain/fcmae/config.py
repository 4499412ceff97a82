"""Options of an FCMAE pre-training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.options import AT_LEAST_ONE, BETWEEN, RANGE_OF_SHARES, ZERO_TO_ONE, option
from convnext.printing import command_line, flag_of


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """An FCMAE pre-training run."""

    TASK: ClassVar[str] = "pretrain"
    FIXED: ClassVar[tuple[str, ...]] = ("patience", "freeze_backbone")

    mask_ratio: float = option(0.6, "share of the patches that are hidden", group="model", common=True, within=BETWEEN)
    patch_size: int = option(
        32,
        "side of the patches that are hidden, in pixels; a multiple of the network's stride",
        group="model",
        within=AT_LEAST_ONE,
    )
    mask_block: int = option(
        1, "side of the squares that are hidden together, in patches", group="model", within=AT_LEAST_ONE
    )
    encoder: Literal["visible", "dense"] = option(
        "visible",
        "visible: compute the visible patches alone; dense: whole maps, masked (the same numbers, slower)",
        group="model",
    )
    decoder_dim: int = option(512, "channels of the decoder", group="model", within=AT_LEAST_ONE)
    decoder_depth: int = option(1, "number of blocks of the decoder", group="model", within=AT_LEAST_ONE)
    norm_pix_loss: bool = option(True, "predict pixels normalised patch by patch", group="model")
    crop_scale: tuple[float, float] = option(
        (0.2, 1.0), "share of the image's area a training crop takes", group="augmentation", within=RANGE_OF_SHARES
    )
    hflip: float = option(
        0.5, "probability of a horizontal flip", group="augmentation", common=True, within=ZERO_TO_ONE
    )
    probe_every: int = option(
        20,
        "epochs between pictures of reconstructions, and between measurements of --probe",
        group="data",
        within=AT_LEAST_ONE,
    )
    frame_rate: float = option(1.0, "frames that are taken from each second of a video", group="data")
    probe_format: str | None = option(
        None,
        "format of --probe, where it is detection data whose boxes are classified: coco, yolo, voc, ...",
        group="data",
    )
    probe: str | None = option(
        None,
        "labelled data, as `train classify` takes it, on which kNN and a linear probe are measured",
        group="data",
        common=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        stride, patch, size = 8 * self.stem_patch, self.patch_size, self.image_size
        if patch % stride:
            raise InputError(f"patch_size must be a multiple of {stride} at stem_patch {self.stem_patch}, not {patch}")
        if size % patch:
            down = max(size // patch * patch, patch)
            raise InputError(
                f"image_size {size} is no multiple of patch_size {patch}; {down} or {down + patch} would do"
            )
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
            word
            for name in shared
            if name == "model" or getattr(self, name) != getattr(default, name)
            for word in (flag_of(name), getattr(self, name))
        ]
        return f"{command_line('train', 'classify', 'FOLDER', *flags, '--init', run)} --out RUN"
