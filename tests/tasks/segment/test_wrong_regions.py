"""Wrong regions of label maps, by answers that are known."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from convnext.data.map_loading import WholeBatch
from convnext.data.sources.label_maps import IGNORED
from convnext.tasks.segment.wrong_regions import find_wrong_regions, pixel_answers, pixel_habits

SKY, ROAD, CAR = 0, 1, 2


class Knowing:
    """A segmenter that takes its images to be logits."""

    classes = ("sky", "road", "car")
    scales = (1.0,)
    flip = False

    def scores(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def truth() -> np.ndarray:
    labels = np.full((80, 100), SKY, dtype=np.int16)
    labels[40:] = ROAD
    labels[50:62, 20:40] = CAR
    return labels


def logits(labels: np.ndarray, sure: float = 4.0) -> torch.Tensor:
    return sure * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 3).permute(2, 0, 1).float()


def batches(*pairs: tuple[torch.Tensor, np.ndarray]) -> Iterator[WholeBatch]:
    for index, (image, labels) in enumerate(pairs):
        yield WholeBatch([image], [labels], [index], [])


def regions(*pairs: tuple[torch.Tensor, np.ndarray]) -> list:
    habits = pixel_habits(pixel_answers(Knowing(), batches(*pairs)), 3)
    return find_wrong_regions(Knowing(), batches(*pairs), habits)


def test_label_maps_as_answered_have_no_fault() -> None:
    assert regions((logits(truth()), truth())) == []


def test_an_object_left_out_of_a_map_is_found_where_it_is() -> None:
    planted = truth()
    planted[planted == CAR] = ROAD
    (region,) = regions((logits(truth()), truth()), (logits(truth()), planted))
    assert (region.image, region.label, region.suggested) == (1, ROAD, CAR)
    assert region.box == (20, 50, 40, 62)
    assert region.area == pytest.approx(240 / 8000, rel=0.05)
    assert region.score > 0.85


def test_a_region_of_another_class_is_found_in_the_pixels_of_the_map() -> None:
    planted = np.repeat(np.repeat(truth(), 2, axis=0), 3, axis=1)  # a map of 160 by 300 pixels, seen at 80 by 100
    planted[planted == CAR] = SKY
    (region,) = regions((logits(truth()), truth()), (logits(truth()), planted))
    assert (region.label, region.suggested, region.box) == (SKY, CAR, (60, 100, 120, 124))


def test_thin_borders_and_what_is_ignored_are_passed_over() -> None:
    shifted = np.roll(truth(), 3, axis=0)
    assert regions((logits(truth()), truth()), (logits(shifted), truth())) == []
    hidden = truth()
    hidden[hidden == CAR] = IGNORED
    assert regions((logits(truth()), truth()), (logits(truth()), hidden)) == []


def test_a_surer_answer_comes_first() -> None:
    planted = truth()
    planted[planted == CAR] = ROAD
    sound = (logits(truth(), 3.0), truth())
    found = regions(sound, (logits(truth(), 3.5), planted), sound, (logits(truth(), 6.0), planted))
    assert [region.image for region in found] == [3, 1]
    assert found[0].score > found[1].score


def test_of_two_equally_sure_answers_the_larger_region_comes_first() -> None:
    small, large = truth(), truth()
    small[70:75, 80:85] = large[70:79, 80:99] = CAR
    sound = (logits(truth()), truth())
    found = regions(sound, (logits(truth()), small), (logits(truth()), large))
    assert [region.image for region in found] == [2, 1]
    assert 0.6 < found[1].score / found[0].score < 0.9


def test_what_is_confused_everywhere_comes_last() -> None:
    """A car answered as sky in every image is the segmenter's fault; road answered as car in one is the map's."""
    confused, planted = truth(), truth()
    confused[confused == CAR] = SKY
    planted[70:76, 60:80] = CAR
    found = regions(*[(logits(confused), truth())] * 3, (logits(np.where(planted == CAR, CAR, truth())), truth()))
    assert [(region.image, region.label, region.suggested) for region in found[:1]] == [(3, ROAD, CAR)]
    assert max(region.score for region in found[1:]) < 0.3 * found[0].score


def test_habits_by_hand() -> None:
    probabilities = np.array([[[0.8, 0.4, 0.1]], [[0.2, 0.6, 0.9]]])
    habits = pixel_habits([(0, probabilities, np.array([[0, 0, 1]]), (1, 3))], 2)
    np.testing.assert_allclose(habits.thresholds, [0.6, 0.9])
    np.testing.assert_allclose(habits.answered, [[0.5, 0.5], [0, 1]])
