import pytest
import torch

from convnext import create_model, list_models
from convnext.models.detection.rcnn import create_detector
from convnext.models.segmentation.upernet import create_segmenter
from convnext.nn.parameters import BACKBONE, head_layer, layer_of
from convnext.train.optim import build_optimizers, parameter_groups, set_learning_rate


def build(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name)


def groups_of(model: torch.nn.Module) -> list[dict]:
    how = {"rules": model.parameter_rules, "depths": model.depths}
    return parameter_groups(model.named_parameters(), **how, weight_decay=0.05)


@pytest.mark.parametrize("name", list_models())
def test_decay_takes_weights_of_convolutions_and_linears_only(name: str) -> None:
    model = build(name)
    groups = parameter_groups(
        model.named_parameters(), rules=model.parameter_rules, depths=model.depths, weight_decay=0.05
    )
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    expected = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    }
    assert decayed == expected
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len(groups) == 2  # a GPU takes as long for a group of few parameters as for one of many


@pytest.mark.parametrize(
    ("parameter", "single", "group"),
    [
        ("downsample_layers.0.0.weight", 1, 0),
        ("downsample_layers.0.1.bias", 1, 0),
        ("stages.0.0.dwconv.weight", 1, 1),
        ("stages.0.2.dwconv.weight", 3, 1),
        ("downsample_layers.1.1.weight", 4, 2),
        ("stages.1.2.pwconv1.weight", 6, 2),
        ("downsample_layers.2.0.weight", 7, 3),
        ("stages.2.0.norm.weight", 7, 3),
        ("stages.2.3.norm.weight", 10, 4),
        ("stages.2.26.grn.gamma", 33, 11),
        ("downsample_layers.3.1.weight", 34, 12),
        ("stages.3.2.pwconv2.bias", 36, 12),
        ("norm.weight", 37, 13),
        ("encoder.stages.2.3.norm.weight", 10, 4),
        ("decoder.0.dwconv.weight", 37, 13),
        ("head.weight", 37, 13),
    ],
)
def test_layers_are_those_of_the_released_code(parameter: str, single: int, group: int) -> None:
    depths = (3, 3, 27, 3)
    assert layer_of(parameter, depths, "single") == single
    assert layer_of(parameter, depths, "group") == group


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("backbone.downsample_layers.0.0.weight", 0),
        ("backbone.downsample_layers.3.1.weight", 0),
        ("backbone.stages.0.2.norm.weight", 1),
        ("backbone.stages.2.26.norm.weight", 3),
        ("backbone.stages.3.0.norm.weight", 4),
        ("norms.0.weight", 13),
        ("fuse.conv.weight", 13),
    ],
)
def test_a_segmenters_layers_are_stages(parameter: str, layer: int) -> None:
    assert layer_of(parameter, (3, 3, 27, 3), "stage") == layer


@pytest.mark.parametrize(("depths", "layers"), [((3, 3, 27, 3), 12), ((3, 3, 9, 3), 6)])
def test_a_segmenters_rates_are_those_of_the_released_code(depths: tuple[int, ...], layers: int) -> None:
    """Its exponents are `num_layers` + 2 - layer - 1, with a `num_layers` of 12 for all networks but V1-Tiny, 6."""
    names = [f"backbone.stages.{stage}.0.norm.weight" for stage in range(4)]
    exponents = [head_layer(depths, "stage") - layer_of(name, depths, "stage") for name in (*names, "fuse.conv.weight")]
    assert exponents == [*(layers + 2 - (stage + 1) - 1 for stage in range(4)), 0]
    stem = layer_of("backbone.downsample_layers.0.0.weight", depths, "stage")
    assert head_layer(depths, "stage") - stem == layers + 1


def test_decay_takes_a_segmenters_convolutions_only() -> None:
    model = create_segmenter("convnextv2_atto", num_classes=3, fpn_dim=32, aux_dim=16, head_norm="group")
    groups = parameter_groups(
        model.named_parameters(), rules=model.parameter_rules, depths=model.depths, weight_decay=0.05
    )
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    layers = (torch.nn.Conv2d, torch.nn.Linear)
    assert decayed == {id(module.weight) for module in model.modules() if isinstance(module, layers)}


def test_learning_rate_falls_by_the_layer() -> None:
    model = create_model("convnextv2_atto", num_classes=2)
    optimizers = build_optimizers(model, weight_decay=0.05, layer_decay=0.5)
    set_learning_rate(optimizers, 8.0)
    rates = {id(p): group["lr"] for group in optimizers[0].param_groups for p in group["params"]}
    assert rates[id(model.head.weight)] == 8.0
    assert rates[id(model.stages[3][1].dwconv.weight)] == 4.0
    assert rates[id(model.downsample_layers[0][0].weight)] == pytest.approx(8.0 * 0.5**12)


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("convnextv2_atto", num_classes=2).requires_grad_(False)
    model.head.requires_grad_(True)
    groups = parameter_groups(
        model.named_parameters(), rules=model.parameter_rules, depths=model.depths, weight_decay=0.05
    )
    assert [p.shape for group in groups for p in group["params"]] == [model.head.weight.shape, model.head.bias.shape]


def test_muon_takes_the_inner_matrices_at_its_own_rate() -> None:
    model = create_model("convnextv2_atto", num_classes=2)
    adamw, muon = build_optimizers(model, muon_lr_scale=10, weight_decay=0.05)
    set_learning_rate([adamw, muon], 1e-3)
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    linears = [block.pwconv1.weight for stage in model.stages for block in stage]
    linears += [block.pwconv2.weight for stage in model.stages for block in stage]
    between = [downsample[1].weight for downsample in list(model.downsample_layers)[1:]]
    assert len(between) == 3
    assert taken == {id(weight) for weight in linears + between}
    assert {group["lr"] for group in muon.param_groups} == {1e-2}
    left = sum(len(group["params"]) for group in adamw.param_groups)
    assert left + len(taken) == len(list(model.parameters()))


def test_muon_takes_a_detectors_inner_layers_and_leaves_its_last() -> None:
    detector = create_detector(
        "convnextv2_atto", num_classes=2, fpn_dim=32, linear_dim=64, cascade=True, box_convs=1, mask_convs=2
    )
    named = {name: p for name, p in detector.named_parameters() if not name.startswith("backbone.") and p.ndim > 1}
    adamw, muon = build_optimizers(detector, muon_lr_scale=10, weight_decay=0.05)
    left, taken = ({id(p) for group in each.param_groups for p in group["params"]} for each in (adamw, muon))
    assert {name for name, p in named.items() if id(p) in left} == {
        "rpn.head.cls_logits.weight",
        "rpn.head.bbox_pred.weight",
        *(f"box_stages.{stage}.head.{last}.weight" for stage in range(3) for last in ("classify", "box")),
        *(f"mask_heads.{stage}.{last}.weight" for stage in range(3) for last in ("upsample", "predict")),
    }
    assert {name for name, p in named.items() if id(p) in taken} > {
        "fpn.inner_blocks.0.0.weight",
        "fpn.layer_blocks.3.0.weight",
        "rpn.head.conv.0.0.weight",
        "box_stages.0.head.convs.0.conv.weight",
        "box_stages.2.head.linear.0.weight",
        "mask_heads.1.convs.1.conv.weight",
    }


@pytest.mark.parametrize("name", ["stages.0.0.attention.weight", "stages.0.0.grn.scale"])
def test_a_parameter_that_no_rule_covers_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        parameter_groups(
            [(name, torch.nn.Parameter(torch.zeros(2, 2)))], rules=BACKBONE, depths=(2, 2, 6, 2), weight_decay=0.05
        )
