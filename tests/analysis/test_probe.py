"""kNN and linear probe on features that are known to be good, or to be nothing."""

import pytest
import torch

from convnext import create_model
from convnext.analysis.probe import linear_classes, nearest_classes, pooled_features, probe_accuracy
from convnext.data.image_set import read_train_val
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import eval_loader


@pytest.fixture(scope="module")
def clusters():
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 16, generator=generator)
    y = torch.arange(200) % 4
    return centres[y] + torch.randn(200, 16, generator=generator), y


@pytest.mark.parametrize("classify", [nearest_classes, linear_classes])
def test_clusters_are_told_apart_and_noise_is_not(classify, clusters):
    x, y = clusters
    assert (classify(x[:120], y[:120], x[120:]) == y[120:]).float().mean() > 0.95
    shuffled = y[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert (classify(x[:120], shuffled[:120], x[120:]) == shuffled[120:]).float().mean() < 0.5


def test_probe_of_a_network_on_images(colours):
    model = create_model("convnextv2_atto", num_classes=0)
    parts = read_train_val(str(colours))[:2]
    loaders = [eval_loader(part, Preprocessing.standard(32), batch_size=8, workers=0) for part in parts]
    features, targets = pooled_features(model, loaders[0], torch.device("cpu"))
    assert features.shape == (24, 320)
    assert targets.tolist() == list(parts[0].targets)
    metrics = probe_accuracy(model, *loaders, torch.device("cpu"))
    assert metrics == {"knn": 100.0, "linear_probe": 100.0}  # colours are told apart by any network
    assert model.training
