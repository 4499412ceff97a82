"""Speed and memory of FCMAE pre-training steps: visible patches against masked dense and independent peers.

    python benchmarks/pretrain.py [--only "tiny fp32"] [--against dense] [--repeats 7] [--device cuda] [--out FILE.md]
        [--json FILE]

A step is forward, backward and fused AdamW on the same images and masks. The sides:

visible       this project's encoder, on visible patches alone
dense         this project's masked-dense encoder: same blocks, same depthwise operator, whole maps multiplied by the
              mask; its pointwise layers are PyTorch's, as the masked GRN stands between them
timm dense    masked dense built on timm's blocks, its GRN given masked activations
ViT-MAE       transformers' ViTMAEForPreTraining, its encoder of equal multiply-adds, a decoder of one block of the same
              width; on 197 tokens where ours has 49, so of 0.7 G multiply-adds an image where ours has 0.2 G

The first three share decoder, loss and weights, and their losses are compared before anything is timed. All are in
channels-last memory format where they have one. Calls alternate; a time is the median over the repeats.
With --json, the times of stages are in FILE_stages.json.
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from memory import peak_in_a_process, peak_mib
from tables import table
from timing import machine, medians, say, write_result
from torch import Tensor, nn
from train import inputs

import convnext
from convnext.models.fcmae import FCMAE
from convnext.models.masking import random_patches
from convnext.nn.masked_dense import masked_block
from convnext.nn.visible_patches import VisiblePatches
from convnext.train.cuda_graph import GraphedStep
from convnext.weights.layouts import from_official

SIZE, PATCH, RATIO = 224, 32, 0.6
LIMIT = 49 / 19


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    batch: int
    bf16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        size = self.model.removeprefix("convnextv2_")
        return (
            f"{size} {'bf16' if self.bf16 else 'fp32'} {'compiled' if self.compiled else 'eager'}, batch {self.batch}"
        )


CPU_CASES = [
    Case(model, batch, bf16, compiled)
    for model, batch in (("convnextv2_tiny", 8), ("convnextv2_atto", 32))
    for compiled in (True, False)
    for bf16 in (False, True)
]
CUDA_CASES = [Case("convnextv2_base", 128, True, compiled) for compiled in (True, False)]
SIDES = ["visible", "dense", "timm dense", "ViT-MAE"]
STAGES: list[dict] = [
    {"name": "eager stage, forward and backward"},
    {"name": "visible, ms", "digits": 1},
    {"name": "dense, ms", "digits": 1},
    {"name": "ratio", "digits": 2},
]


def columns_against(peers: list[str]) -> list[dict]:
    """Of the table of whole steps."""
    found: list[dict] = [{"name": "step"}, {"name": "visible, images/s", "digits": 1}]
    for peer in peers:
        found.append({"name": f"{peer}, images/s", "digits": 1})
        found.append({"name": f"visible, × {peer}", "digits": 2, "inside": " (visible × {})"})
    found.append({"name": "memory of visible, × dense", "digits": 2})
    found.append({"name": "visible, MiB", "digits": 0, "inside": " ({}"})
    return [*found, {"name": "dense, MiB", "digits": 0, "inside": " of {} MiB)"}]


class TimmMaskedDense(FCMAE):
    """Masked dense built on timm's blocks, with this project's decoder and loss."""

    def __init__(self, ours: FCMAE, name: str) -> None:
        super().__init__(copy.deepcopy(ours.encoder))
        self.load_state_dict(ours.state_dict())
        self.peer = timm.create_model(name, num_classes=0)
        self.peer.load_state_dict(from_official(ours.encoder.state_dict(), "timm"), strict=False)
        self.peer.head = nn.Identity()
        for parameter in self.encoder.parameters():  # only its sizes are used
            parameter.requires_grad_(False)

    def encode_patches(self, images: Tensor, patches: VisiblePatches) -> Tensor:
        seen = (~patches.mask()).unsqueeze(1)
        x = self.peer.stem(images)
        for stage in self.peer.stages:
            x = stage.downsample(x)
            side = x.shape[-1] // seen.shape[-1]
            keep = seen.repeat_interleave(side, 2).repeat_interleave(side, 3).to(x.dtype)
            for block in stage.blocks:
                x = timm_masked_block(block, x, keep)
        return patches.cut((x * keep).permute(0, 2, 3, 1))


def timm_masked_block(block: Any, x: Tensor, keep: Tensor) -> Tensor:
    """timm's ConvNeXtBlock on a map `[N, C, H, W]`, as its own forward, with the mask where positions meet."""
    branch = block.conv_dw(x * keep)
    if not block.use_conv_mlp:
        branch, keep = branch.permute(0, 2, 3, 1), keep.permute(0, 2, 3, 1)
    mlp = block.mlp
    branch = mlp.act(mlp.fc1(block.norm(branch)))
    branch = mlp.fc2(mlp.grn(branch * keep))
    return x + (branch if block.use_conv_mlp else branch.permute(0, 3, 1, 2))


def vit_mae(model: str) -> nn.Module:
    """A ViT-MAE at the same ratio whose encoder does as many multiply-adds on its visible tokens."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    # Patch 16: 78 visible tokens and one for the class, each layer 79·12·d² + 2·79²·d multiply-adds.
    width, layers, heads = {
        "convnextv2_atto": (192, 6, 3),  # 0.22 G against 0.21 G
        "convnextv2_tiny": (384, 12, 6),  # 1.74 G against 1.73 G
        "convnextv2_base": (768, 11, 12),  # 6.26 G against 5.97 G
    }[model]
    return ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            mask_ratio=RATIO,
            norm_pix_loss=True,
            decoder_hidden_size=512,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=8,
            decoder_intermediate_size=2048,
        )
    )


def build(case: Case, side: str) -> nn.Module:
    """One side's model, the FCMAE ones with the same weights, GRN's included."""
    torch.manual_seed(0)
    ours = convnext.create_fcmae(case.model, masked_dense=side == "dense")
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if ".grn." in name:
                parameter.normal_(std=0.1)
    model = {"timm dense": lambda: TimmMaskedDense(ours, case.model), "ViT-MAE": lambda: vit_mae(case.model)}.get(
        side, lambda: ours
    )()
    return model.to(memory_format=torch.channels_last)


def loss_of(side: str, model: Callable, images: Tensor, patches: VisiblePatches) -> Tensor:
    return model(images).loss if side == "ViT-MAE" else model(images, patches)[0]


def step(case: Case, side: str, device: str, graphed: bool = False) -> Callable[[], Tensor]:
    """What is timed; returns the loss. `graphed`: its forward and backward pass as a CUDA graph."""
    model = build(case, side).to(device)
    run = torch.compile(model) if case.compiled else model
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(case.batch, 3, SIZE, SIZE, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def compute(part: tuple[Tensor, VisiblePatches]) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=case.bf16):
            loss = loss_of(side, run, *part)
        loss.backward()
        return loss.detach()

    work = GraphedStep(compute, model, inputs) if graphed else compute

    def one() -> Tensor:
        grid = (SIZE // PATCH, SIZE // PATCH)
        loss = work((images, random_patches(case.batch, grid, RATIO, generator=generator, device=device)))
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return one


def check_equal(case: Case, device: str) -> None:
    """The three FCMAE sides compute the same loss, in fp32, whatever is to be timed."""
    images = torch.randn(2, 3, SIZE, SIZE, device=device)
    patches = random_patches(2, (7, 7), RATIO, device=device)
    with torch.no_grad():
        losses = [loss_of(side, build(case, side).to(device), images, patches) for side in SIDES[:3]]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-4, atol=1e-4)


def stage_times(case: Case, repeats: int) -> list[tuple[float, float]]:
    """Milliseconds of each stage, forward and backward, visible and dense, eager."""
    patches = random_patches(case.batch, (7, 7), RATIO)
    model = build(case, "visible").encoder
    results = []
    for i, stage in enumerate(model.stages):
        p, dim = 8 >> i, model.dims[i]
        x = torch.randn(case.batch, 19, p, p, dim, requires_grad=True)
        maps = torch.randn(case.batch, 7 * p, 7 * p, dim, requires_grad=True)
        keep = patches.fill(torch.ones(case.batch, 19, p, p, 1))

        def run(x: Tensor, block_forward: Callable, stage: nn.Module = stage) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
                y = x
                for block in stage.children():
                    y = block_forward(block, y)
            y.sum().backward()

        def visible(x: Tensor = x, run: Callable = run) -> None:
            run(x, lambda block, y: block(y, patches))

        def dense(maps: Tensor = maps, keep: Tensor = keep, run: Callable = run) -> None:
            run(maps, lambda block, y: masked_block(block, y, keep))

        mine, peer = medians([visible, dense], repeats)
        results.append((mine, peer))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--against", nargs="+", default=SIDES[1:], choices=SIDES[1:])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the tables as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = CUDA_CASES if args.device == "cuda" else CPU_CASES
    if args.peak:
        case = next(case for case in cases if str(case) == args.peak[0])
        print(peak_mib(step(case, args.peak[1], args.device), args.device))
        return

    lines = [
        f"{machine()}; {args.threads} threads; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__.split('+')[0]}, timm {timm.__version__}; "
        f"medians of {args.repeats} alternating steps",
        f"images of {SIZE} pixels, patches of {PATCH}, 19 of 49 visible: the limit of equal code is {LIMIT:.2f}",
    ]
    print("\n".join(lines), flush=True)
    sides = [SIDES[0], *args.against]
    columns, rows = columns_against(args.against), list[list]()
    for case in cases:
        if args.only not in str(case):
            continue
        torch._dynamo.reset()
        check_equal(case, args.device)
        times = medians([step(case, side, args.device) for side in sides], args.repeats)
        speeds = [figure for time in times[1:] for figure in (case.batch / time * 1e3, time / times[0])]
        memory = [None] * 3 if args.no_memory else memory_ratio(case, args.device)
        rows.append([str(case), case.batch / times[0] * 1e3, *speeds, *memory])
        say(columns, rows)
    stages: list[list] = []
    for case in cases if args.device == "cpu" else ():
        if args.only in str(case) and not case.compiled:
            for i, (mine, peer) in enumerate(stage_times(case, args.repeats)):
                stages.append([f"{case}, stage {i + 1}", mine, peer, peer / mine])
                say(STAGES, stages)
    if args.out:
        text = ["# Speed of pre-training", "", *(f"{line}." for line in lines), ""]
        tables = [*table(columns, rows), *(["", *table(STAGES, stages)] if stages else ())]
        args.out.write_text("\n".join([*text, "Command: `python benchmarks/pretrain.py`.", "", *tables, ""]))
    if args.json:
        origin = {"seed": 0, "peers": ("timm", "transformers"), "note": "; ".join(lines)}
        write_result(args.json, title="FCMAE steps against their peers", columns=columns, rows=rows, **origin)
        if stages:
            path = args.json.with_stem(f"{args.json.stem}_stages")
            write_result(path, title="FCMAE by stage, visible and dense", columns=STAGES, rows=stages, **origin)


def memory_ratio(case: Case, device: str) -> list[float]:
    """Of visible to dense, and the MiB of each."""
    mine, peer = (peak_in_a_process(__file__, str(case), side, device) for side in ("visible", "dense"))
    return [mine / peer, mine, peer]


if __name__ == "__main__":
    main()
