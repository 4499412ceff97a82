"""Files that other libraries write: loaded here they answer as there, and written back they are the same bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from peers import NAMES, foreign_model, members, randomise
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vacuous import nonempty

import convnext
from convnext import create_model
from convnext.variants import VARIANTS
from convnext.weights import read_meta, read_state
from convnext.weights.layouts import from_official, to_official

SIZES = [(64, 96), (128, 128)]
LARGEST = 100e6
"""Parameters of what is computed at all."""


def cases(*layouts: str) -> list:
    """Layout and name of each member."""
    return [
        pytest.param(layout, *each.values, marks=each.marks)
        for layout in layouts
        for each in members(name for name in NAMES[layout] if VARIANTS[name].parameters < LARGEST)
    ]


def assert_same(own: Tensor, foreign: Tensor) -> None:
    largest = foreign.abs().max().item()
    assert own.shape == foreign.shape
    assert 0.1 < largest < 100  # neither vanished nor exploded: the comparison means something
    assert (own - foreign).abs().max().item() <= 1e-4


def assert_identical(written: dict[str, Tensor], original: dict[str, Tensor]) -> None:
    assert written.keys() == original.keys()
    for key, tensor in nonempty(original.items()):
        assert written[key].dtype == tensor.dtype
        assert torch.equal(written[key], tensor), key


@pytest.mark.parametrize(("layout", "name"), cases("timm", "torchvision", "hf"))
@torch.inference_mode()
def test_a_classifiers_file(layout: str, name: str, tmp_path: Path) -> None:
    foreign = randomise(foreign_model(layout, name)).eval()
    save_file(foreign.state_dict(), tmp_path / "model.safetensors")
    own = create_model(name, weights=tmp_path / "model.safetensors").eval()
    for size in SIZES:
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        expected = foreign(images)
        assert_same(own(images), expected if isinstance(expected, Tensor) else expected.logits)
    convnext.save_weights(own, tmp_path / "back.safetensors", layout=layout)
    assert_identical(load_file(tmp_path / "back.safetensors"), foreign.state_dict())


@pytest.mark.parametrize(("layout", "name"), cases("dinov3"))
@torch.inference_mode()
def test_a_dinov3_file_of_the_hub(layout: str, name: str, tmp_path: Path) -> None:
    foreign = randomise(foreign_model(layout, name)).eval()
    save_file(foreign.state_dict(), tmp_path / "model.safetensors")
    own = create_model(name, num_classes=0, weights=tmp_path / "model.safetensors").eval()
    for size in SIZES:
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        assert_same(own(images), foreign(images).pooler_output)
    convnext.save_weights(own, tmp_path / "back.safetensors", layout=layout)
    assert_identical(load_file(tmp_path / "back.safetensors"), foreign.state_dict())


@pytest.mark.parametrize("layout", ["timm", "hf", "mmpretrain"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_stays_as_it_is(layout: str, kind: torch.dtype) -> None:
    state = {key: tensor.to(kind) for key, tensor in create_model("convnext_atto", num_classes=3).state_dict().items()}
    assert_identical(to_official(from_official(state, layout)), state)


def test_an_open_clip_file(tmp_path: Path) -> None:
    """The tower's trunk by timm, and its projection by hand: `visual.head.proj` of the pooled and normalised map."""
    trunk = randomise(foreign_model("timm", "convnext_atto", 0)).eval()
    projection = torch.randn(16, 320, generator=torch.Generator().manual_seed(2)) / 18
    state = {f"visual.trunk.{key}": tensor for key, tensor in trunk.state_dict().items()}
    state |= {"visual.head.proj.weight": projection, "logit_scale": torch.tensor(4.6), "text.x": torch.zeros(2)}
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, tmp_path / "clip.pt")
    own = create_model("convnext_atto", num_classes=16, weights=tmp_path / "clip.pt").eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_same(own(images), trunk(images) @ projection.T)
    read, _ = read_state(tmp_path / "clip.pt")
    back = from_official(read, "open_clip")
    assert_identical(back, {key: tensor for key, tensor in state.items() if key.startswith("visual.")})


class Isotropic(nn.Module):
    """The official network of one stage: 16×16 patches without a norm, blocks at one resolution (V1, section 3.3).

    Small and Base have no LayerScale.
    """

    def __init__(self, depth: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 16, stride=16)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            block.norm = nn.LayerNorm(dim, eps=1e-6)
            block.pwconv1, block.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
            self.blocks.append(block)
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y = block.norm(block.dwconv(x).permute(0, 2, 3, 1))
            y = block.pwconv2(nn.functional.gelu(block.pwconv1(y)))
            x = x + y.permute(0, 3, 1, 2)
        return self.head(self.norm(x.mean((2, 3))))


@torch.inference_mode()
def test_an_isotropic_file(tmp_path: Path) -> None:
    foreign = randomise(Isotropic(18, 384)).eval()
    torch.save({"model": foreign.state_dict()}, tmp_path / "iso.pth")
    own = convnext.load(tmp_path / "iso.pth", device="cpu").model
    for size in SIZES:
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
        assert_same(own(images), foreign(images))
    assert_identical(from_official(read_state(tmp_path / "iso.pth")[0], "isotropic"), foreign.state_dict())


def test_what_clips_files_are_for(tmp_path: Path) -> None:
    """Of a name of OpenCLIP's, and timm's copy in a folder: a projection embeds, a fine-tuned head classifies."""
    state = {"visual.trunk.stem.0.weight": torch.zeros(1), "visual.head.proj.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "open_clip.pt")
    save_file(state, tmp_path / "open_clip.safetensors")
    for name in ("open_clip.pt", "open_clip.safetensors"):
        meta = read_meta(tmp_path / name)
        assert (meta["task"], meta["preprocessing"]["image_size"]) == ("embed", 256)
        assert meta["preprocessing"]["mean"][0] == 0.48145466
    for tag, task in (("clip_laion2b", "embed"), ("clip_laion2b_augreg_ft_in1k", "classify")):
        folder = tmp_path / tag
        folder.mkdir()
        save_file({"head.fc.weight": torch.zeros(640, 1)}, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"architecture": "convnext_base", "pretrained_cfg": {"tag": tag}})
        )
        assert read_meta(folder)["task"] == task
