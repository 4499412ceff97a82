"""Image classification: backbone, global average pool, LayerNorm, Linear."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convnext.models.encoder import backbone_of
from convnext.nn.backbone import ConvNeXt, init_weights
from convnext.nn.downsample import NormLayer
from convnext.nn.norm import LayerNorm
from convnext.nn.parameters import BACKBONE
from convnext.variants import find_variant


class Classifier(ConvNeXt):
    """A ConvNeXt with a classification head; parameters are named as in the official files.

    Args:
        num_classes: outputs of the head; 0 leaves the head out, and `forward` gives what it would get.
        norm_first: normalise each position before the pooling instead of the pooled features (timm's tiny_hnf).
        head_hidden: width of a hidden layer with GELU before the head's last one (timm's large_mlp); 0 for none.
        head_init_scale: factor on the head's first weights (papers: 1 from scratch, 0.001 when fine-tuning).
        **backbone: arguments of `ConvNeXt`.
    """

    parameter_rules = BACKBONE.extended(
        ((r"^head\.weight$|^pre_logits\.fc\.weight$", True),), matrices=(r"^pre_logits\.fc\.weight$",)
    )

    def __init__(
        self,
        depths: tuple[int, ...],
        dims: tuple[int, ...],
        *,
        num_classes: int = 1000,
        head_init_scale: float = 1.0,
        norm: NormLayer = LayerNorm,
        norm_first: bool = False,
        head_hidden: int = 0,
        **backbone: Any,
    ) -> None:
        super().__init__(depths, dims, norm=norm, **backbone)
        self.num_classes, self.head_width = num_classes, head_hidden or dims[-1]
        self.norm_pre = norm(dims[-1]) if norm_first else nn.Identity()
        self.norm = nn.Identity() if norm_first else norm(dims[-1])
        self.pre_logits: nn.Module = nn.Identity()
        if head_hidden:
            self.pre_logits = nn.Sequential(OrderedDict(fc=nn.Linear(dims[-1], head_hidden), act=nn.GELU()))
        self.head: nn.Module = nn.Linear(self.head_width, num_classes) if num_classes else nn.Identity()
        init_weights(self)
        if isinstance(self.head, nn.Linear):
            self.head.weight.data.mul_(head_init_scale)
        # computes whole images to embeddings and logits, with the head it was made of
        self.whole_engine: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def embed(self, images: Tensor) -> Tensor:
        """Images `[N, in_chans, H, W]` to pooled and normalised features `[N, C_4]`."""
        if self.whole_engine is not None:
            return self.whole_engine(self.padded(images))[0]
        return self.pool(self.forward_stages(images, last_only=True)[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Images `[N, in_chans, H, W]` to logits `[N, num_classes]`."""
        if self.whole_engine is not None:
            return self.whole_engine(self.padded(images))[1]
        return self.head(self.pre_logits(self.embed(images)))

    def run_whole(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images, of which no side needs padding, to `embed` and `forward` of them, computed by PyTorch."""
        embedding = self.pool(self.run_stages(images)[-1])
        return embedding, self.head(self.pre_logits(embedding))

    def pool(self, last: Tensor) -> Tensor:
        """The last stage's map, channels-last, to pooled and normalised features `[N, C_4]`."""
        return self.norm(self.norm_pre(last).mean(dim=(1, 2)))

    # What timm's models are called by.

    @property
    def num_features(self) -> int:
        """Channels of the last stage, C_4."""
        return self.dims[-1]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images `[N, in_chans, H, W]` to the last stage's map `[N, C_4, H/32, W/32]`, before the pooling."""
        return self.norm_pre(self.forward_stages(images, last_only=True)[-1]).permute(0, 3, 1, 2)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The map of `forward_features` to logits `[N, num_classes]`.

        With `pre_logits`, to what the head's last layer takes: pooled and normalised features `[N, C_4]`, where the
        head has no hidden layer.
        """
        pooled = self.pre_logits(self.norm(features.mean(dim=(2, 3))))
        return pooled if pre_logits else self.head(pooled)

    def forward_intermediates(
        self, images: Tensor, indices: int | Sequence[int] | None = None, *, intermediates_only: bool = False
    ) -> Any:
        """The maps of chosen stages, `[N, C_i, H/s, W/s]` each for strides s; before them, in a pair, the last one.

        Args:
            images: `[N, in_chans, H, W]`.
            indices: stages from 0 on, the last so many, or None for all.
            intermediates_only: return the list alone.
        """
        maps = self.pyramid(images)
        chosen = range(len(maps)) if indices is None else indices
        chosen = range(len(maps) - chosen, len(maps)) if isinstance(chosen, int) else chosen
        found = [maps[index] for index in chosen]
        return found if intermediates_only else (maps[-1], found)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one with random weights; 0 leaves it out."""
        like = next(self.parameters())
        self.num_classes, self.whole_engine = num_classes, None
        self.head = nn.Linear(self.head_width, num_classes) if num_classes else nn.Identity()
        init_weights(self.head)
        self.head.to(device=like.device, dtype=like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute each block again in the backward pass instead of storing its activations, or do not."""
        self.checkpointing = enable


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    weights: str | Path | None = None,
    stem_patch: int = 4,
    checkpointing: bool = False,
    layer_scale_init: float = 1e-6,
    head_init_scale: float = 1.0,
) -> Classifier:
    """Build a model of the family by name.

    Args:
        name: one of `list_models()`.
        num_classes: outputs of the head; 0 for none.
        in_chans: channels of the images.
        drop_path_rate: stochastic depth of the last block.
        weights: anything `load_weights` takes; random weights if None.
        stem_patch: 4; 2 or 1 for small images.
        checkpointing: trade time for memory in training.
        layer_scale_init: V1 only.
        head_init_scale: factor on the head's first weights.

    Raises:
        InputError: unknown name (the nearest names are given), or weights that do not fit.
    """
    variant = find_variant(name)
    model = Classifier(
        **backbone_of(variant, in_chans=in_chans, stem_patch=stem_patch, layer_scale_init=layer_scale_init),
        norm_first=variant.norm_first,
        head_hidden=variant.head_hidden,
        num_classes=num_classes,
        drop_path_rate=drop_path_rate,
        checkpointing=checkpointing,
        head_init_scale=head_init_scale,
    )
    if weights is not None:
        from convnext.weights import load_weights

        load_weights(model, weights)
    return model
