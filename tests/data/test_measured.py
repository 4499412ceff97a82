"""What is measured of a part of the data alone, where training had divided all of them anew."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from convnext.data.measured import choose_measured
from convnext.data.splits import Origin, listed_hold_out, origin_of

KEYS = [f"c/{n}.png" for n in range(40)]
WHOLE = [f"{part}/{key}" for part in ("train", "val") for key in KEYS]
HELD = {name for n, name in enumerate(WHOLE) if n % 4 == 0}


def content_of(names: list[str]) -> Callable[[int], bytes]:
    return lambda place: names[place].encode()


@pytest.fixture
def origin() -> Origin:
    """A model that a quarter of each of two parts was held out of."""
    trained = [name for name in WHOLE if name not in HELD]
    return origin_of(listed_hold_out(0.25, HELD), trained, content_of(trained))


def chosen_of(data: str, names: list[str], origin: Origin, **how: object) -> tuple[list[str], str]:
    own = content_of(names)
    places, name = choose_measured(
        data, [""] * len(KEYS), KEYS, None, **{"split": None, "origin": origin, "content": own, **how}
    )
    return [names[place] for place in places], name


@pytest.mark.parametrize("part", ["train", "val"])
def test_what_was_held_out_of_a_part_is_measured(part: str, origin: Origin) -> None:
    """Images that were trained on were measured, without a word."""
    names = [f"{part}/{key}" for key in KEYS]
    held = [name for name in names if name in HELD]
    assert chosen_of(f"/data/{part}", names, origin) == (held, "val")
    trained, _ = chosen_of(f"/data/{part}", names, origin, split="train")
    assert sorted([*trained, *held]) == sorted(names)
    assert chosen_of(f"/data/{part}", names, origin, split="all") == (names, "all")


def test_a_part_of_other_data_is_measured_whole(origin: Origin) -> None:
    names = [f"other {key}" for key in KEYS]
    assert chosen_of("/other/val", names, origin) == (names, "all")


def test_a_part_that_was_trained_on_is_said_to_be_such(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "convnext")
    names = [f"train/{key}" for key in KEYS]
    origin = origin_of(listed_hold_out(0.5, WHOLE[40:]), names, content_of(names))
    assert chosen_of("/data/train", names, origin) == (names, "all")
    assert "/data/train: the model was trained on these images" in caplog.text
