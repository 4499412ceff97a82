"""Which published weights a training from random ones is told of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from making import FAST

import convnext
from convnext import cli
from convnext.variants import VARIANTS
from convnext.weights.advice import better_start, nearest_weights
from convnext.weights.licences import restriction_of


def test_its_own_weights_and_free_ones_of_its_size() -> None:
    line = better_start("convnextv2_atto")
    assert line is not None
    assert "--init convnextv2_atto_1k_224 (CC-BY-NC-4.0: not for commercial use)" in line
    assert ", or --model convnext_atto" in line
    assert "(Apache-2.0, free to use)" in line
    assert "v2_tiny_22k_1k_224 " in str(better_start("convnextv2_tiny"))  # better than those of 1K alone
    assert str(better_start("convnext_tiny")).count("--init") == 1  # its own are free


@pytest.mark.parametrize("model", sorted(VARIANTS))
def test_what_is_named_as_free_is_so_and_near(model: str) -> None:
    weights = nearest_weights(model, free=True)
    assert weights is not None
    assert restriction_of(weights.licence) == ""
    assert 0.4 < VARIANTS[weights.variant].parameters / VARIANTS[model].parameters < 2.5
    assert weights in convnext.list_weights()


@pytest.mark.parametrize(
    ("options", "told"), [([], True), (["--in-chans", "1"], False), (["--stem-patch", "2"], False)]
)
def test_it_is_said_where_they_fit(
    options: list[str], told: bool, colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "convnext")
    short = [*FAST, "--epochs", "1", *options]
    assert cli.main(["train", "classify", str(colours), "--out", str(tmp_path / "run"), *short]) == 0
    assert ("published weights are far better" in caplog.text) == told


def test_it_is_not_said_to_whoever_starts_from_weights(
    run: Path, colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "convnext")
    short = [*FAST, "--epochs", "1", "--init", str(run)]
    assert cli.main(["train", "classify", str(colours), "--out", str(tmp_path / "run"), *short]) == 0
    assert "published weights are far better" not in caplog.text
