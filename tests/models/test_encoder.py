"""Detectors and segmenters on members of the family with other stems and norms; isotropic ones have no pyramid."""

import pytest
import torch

from convnext import InputError, create_detector, create_segmenter
from convnext.models.encoder import create_encoder, tiered_width


@pytest.mark.parametrize("name", ["convnext_atto_ols", "convnext_zepto_rms_ols", "convnext_atto_rms"])
def test_dense_networks_on_other_stems_and_norms(name: str) -> None:
    images = torch.randn(1, 3, 64, 96)
    segmenter = create_segmenter(name, num_classes=3, fpn_dim=16, aux_dim=8).eval()
    detector = create_detector(name, num_classes=3, fpn_dim=16, linear_dim=16, mask_convs=1).eval()
    with torch.inference_mode():
        assert segmenter(images).shape == (1, 3, 64, 96)
        assert len(detector(list(images))) == 1


def test_an_isotropic_network_has_no_pyramid() -> None:
    with pytest.raises(InputError, match="convnext_isotropic_small has one map alone, at a sixteenth of the image"):
        create_encoder("convnext_isotropic_small")


def test_the_tiered_stems_width_is_timms() -> None:
    """`make_divisible` of half the width, for every width that there might be."""
    from timm.layers import make_divisible

    for width in range(32, 400, 8):
        assert tiered_width(width) == make_divisible(width // 2)
