"""A network's parameters as an optimizer needs to know them: which take weight decay, which are matrices that Muon may
take, and to which layer each belongs. Every network says so in its `parameter_rules`."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterRules:
    """Rules for parameters by name, as regular expressions that are searched for in it.

    Args:
        decay: whether weight decay takes a parameter: the first rule that fits says so, and one must.
        matrices: what Muon may take: matrices between features. Last layers, whose rows are answers, stay AdamW's.
    """

    decay: tuple[tuple[str, bool], ...]
    matrices: tuple[str, ...] = ()

    def extended(self, decay: tuple[tuple[str, bool], ...], matrices: tuple[str, ...] = ()) -> ParameterRules:
        """Rules with more of them added at the end."""
        return ParameterRules((*self.decay, *decay), (*self.matrices, *matrices))

    def takes_decay(self, name: str) -> bool:
        """Whether weight decay takes the parameter. `ValueError` for a name that no rule covers."""
        for pattern, decayed in self.decay:
            if re.search(pattern, name):
                return decayed
        raise ValueError(f"no rule says whether weight decay takes the parameter {name}")

    def takes_muon(self, name: str) -> bool:
        """Whether Muon may take the parameter."""
        return any(re.search(pattern, name) for pattern in self.matrices)


BACKBONE = ParameterRules(
    decay=(
        (r"(\.|^)bias$", False),
        (r"(\.|^)(gamma|beta)$", False),  # LayerScale; GRN, 4-D in official files, so a rule by dimension misses it
        (r"(\.|^)norm(_pre)?\.weight$|downsample_layers\.(0\.1|[123]\.0)\.weight$", False),  # every norm
        (r"(dwconv|pwconv[12])\.weight$|downsample_layers\.\d\.(\d|overlap)\.weight$", True),
    ),
    matrices=(r"pwconv[12]\.weight$", r"downsample_layers\.[123]\.1\.weight$"),
)
"""Rules of the backbone, under any prefix."""


def head_layer(depths: tuple[int, ...], groups: str) -> int:
    """The last layer: the head's, the final norm's, a decoder's.

    For "stage" it is the same as for "group", nine layers above the last stage, or three where the third stage has nine
    blocks: the released code for segmentation counts so, and the published networks were trained by it.
    """
    if groups == "single":
        return sum(depths) + 1
    return 1 + -(-depths[0] // 3) if len(depths) == 1 else 4 + -(-depths[2] // 3)


def layer_of(name: str, depths: tuple[int, ...], groups: str) -> int:
    """The layer a parameter belongs to, up to `head_layer`.

    "single": every block is a layer, a downsampling belongs to the block after it.
    "group": the third stage's blocks by threes, each other stage (with its downsampling) one layer, which makes twelve
    of 27 blocks and six of nine; the stem is layer 0 (appendix A of both papers, and the released code). An
    isotropic network has one stage: its blocks by threes.
    "stage": a stage is a layer, and all downsampling is layer 0 (the released code for segmentation; see `head_layer`).
    """
    part = re.match(r"(?:encoder\.|backbone\.)?(downsample_layers|stages)\.(\d)\.(\d+|overlap)\.", name)
    if part is None:
        return head_layer(depths, groups)
    kind, stage, block = part[1], int(part[2]), int(part[3]) if part[1] == "stages" else 0
    if groups == "stage":
        return stage + 1 if kind == "stages" else 0
    if groups == "single":
        return sum(depths[:stage]) + block + 1
    if stage == 0 and kind == "downsample_layers":
        return 0
    if len(depths) == 1:
        return 1 + block // 3
    if stage == 2:
        return 3 + block // 3
    return (1, 2, 3, head_layer(depths, groups) - 1)[stage]
