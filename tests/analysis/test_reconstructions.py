"""Pictures of reconstructions: three columns a row, visible pixels untouched."""

import numpy as np
import pytest
import torch
from PIL import Image

from convnext import create_fcmae
from convnext.analysis.reconstructions import GAP, draw_reconstructions
from convnext.data.images.preprocessing import Preprocessing


@pytest.mark.parametrize("channels", [1, 3])
def test_image_visible_part_and_composite(channels, tmp_path):
    torch.manual_seed(0)
    model = create_fcmae("convnextv2_atto", in_chans=channels)
    preprocessing = Preprocessing.standard(96, channels)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(2)]
    images = torch.stack([preprocessing(picture) for picture in pictures])
    draw_reconstructions(model, images, preprocessing, tmp_path / "a.png")
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=int)
    assert sheet.shape == (2 * 96 + GAP, 3 * 96 + 2 * GAP)
    original, masked, composite = (sheet[:96, i * (96 + GAP) :][:, :96] for i in range(3))
    hidden = np.abs(masked - original).reshape(3, 32, 3, 32).max(axis=(1, 3)) > 2
    assert hidden.sum() == 9 - 3  # 3 of 9 patches stay visible
    cells = np.abs(composite - original).reshape(3, 32, 3, 32).max(axis=(1, 3))
    assert (cells[~hidden] <= 1).all()
    assert (cells[hidden] > 5).all()
    draw_reconstructions(model, images, preprocessing, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
