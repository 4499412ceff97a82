"""Speed of segmentation: UperNet on ConvNeXt V2 against transformers' of the same size.

    python benchmarks/segment.py [--model convnextv2_tiny] [--repeats 7] [--device cuda] [--out FILE.md] [--json FILE]

Both have 150 classes, heads of 512 channels and random weights, and see the same image, 512×512; logits in the image's
size. Each runs eager and compiled, transformers' in channels-last memory. Calls alternate; medians.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
import transformers
from tables import table
from timing import machine, medians, say, write_result
from torch import Tensor, nn
from transformers import ConvNextV2Config, UperNetConfig, UperNetForSemanticSegmentation

from convnext.models.segmentation.upernet import create_segmenter
from convnext.variants import find_variant

CLASSES, SIDE = 150, 512
COLUMNS: list[dict] = [
    {"name": "how", "head": ""},
    {"name": "batch"},
    {"name": "convnext, images/s", "digits": 2},
    {"name": "transformers, images/s", "digits": 2},
    {"name": "×", "digits": 2},
]


def ours(name: str) -> nn.Module:
    return create_segmenter(name, num_classes=CLASSES)


class Theirs(nn.Module):
    """transformers' UperNet as an inference user calls it: without the auxiliary head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        variant = find_variant(name)
        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = ConvNextV2Config(hidden_sizes=[*variant.dims], depths=[*variant.depths], out_features=stages)
        config = UperNetConfig(
            backbone_config=backbone, num_labels=CLASSES, auxiliary_in_channels=variant.dims[2], hidden_size=512
        )
        self.network = UperNetForSemanticSegmentation(config).to(memory_format=torch.channels_last)
        self.network.auxiliary_head = None

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="convnextv2_tiny")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    head = f"{machine()}; {args.threads} threads; {args.model}, torch {torch.__version__.split('+')[0]}, transformers "
    head += f"{transformers.__version__}; medians of {args.repeats} alternating calls"
    print(head, flush=True)
    rows: list[list] = []
    for compiled in (False, True):
        torch._dynamo.reset()
        models = [build(args.model).eval().requires_grad_(False).to(args.device) for build in (ours, Theirs)]
        assert abs(parameters(models[0]) / parameters(models[1]) - 1) < 0.02, "not of the same size"
        for model in models if compiled else ():
            model.compile()
        for batch in (1, 4):
            images = torch.randn(batch, 3, SIDE, SIDE, device=args.device)
            inputs = [images, images.contiguous(memory_format=torch.channels_last)]
            times = medians([partial(m, x) for m, x in zip(models, inputs, strict=True)], args.repeats)
            mine, peer = (1e3 * batch / ms for ms in times)
            rows.append(["compiled" if compiled else "eager", batch, mine, peer, mine / peer])
            say(COLUMNS, rows)
    if args.out:
        text = ["# Speed of segmentation", "", f"{head}.", "", "Command: `python benchmarks/segment.py`.", ""]
        args.out.write_text("\n".join([*text, *table(COLUMNS, rows), ""]))
    if args.json:
        title = "Speed of segmentation: UperNet against transformers'"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, peers=("transformers",), note=head)


def parameters(model: nn.Module) -> int:
    """Of what answers: the auxiliary head is left out."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary"))


if __name__ == "__main__":
    main()
