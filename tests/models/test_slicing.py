"""Groups, slicing and averaging, on real architectures with random weights and lively norms."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mvp_edge.core.errors import PlanError
from mvp_edge.models.architectures import new_model
from mvp_edge.models.groups import GroupTable, find_groups
from mvp_edge.models.plan import KeepPlan, full_plan, keep_count, make_plan
from mvp_edge.models.slicing import faithfulness, load_sliced, masked, slice_model, sliced_copy
from mvp_edge.voting.meta_vote import average

ARCHITECTURES = [
    "resnet18-cifar",
    "resnet50",
    "resnext50_32x4d",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "regnetx_002",
    "regnety_002",
    "convnext_atto",
]


def lively(arch: str) -> tuple[nn.Module, GroupTable]:
    torch.manual_seed(0)
    model = new_model(arch, 7)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.get_buffer("running_mean"))
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
    return model.eval(), find_groups(model, (64, 64))


def random_plan(table: GroupTable, keep: float, seed: int = 0) -> KeepPlan:
    rng = np.random.default_rng(seed)
    kept = {
        g.name: rng.choice(g.width, keep_count(g.width, keep, 8, g.unit_channels), replace=False) for g in table.groups
    }
    return make_plan(table.widths, kept)


@pytest.fixture(scope="module")
def resnet() -> tuple[nn.Module, GroupTable]:
    return lively("resnet18-cifar")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sliced_equals_masked(arch: str) -> None:
    model, table = lively(arch)
    images = torch.randn(2, 3, 64, 64)
    for keep in (0.1, 0.7):
        assert faithfulness(model, table, random_plan(table, keep), images) <= 1e-5


def test_a_resnet_has_one_group_for_each_stage_and_each_block(resnet: tuple[nn.Module, GroupTable]) -> None:
    _, table = resnet
    assert list(table.widths.values()) == [64, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512, 512]
    assert table.groups[0].name == "conv1"
    assert {t.module for t in table.groups[0].consumers} == {
        "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.downsample.0",
    }  # fmt: skip


def test_keep_all_is_bit_equal(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(sliced_copy(model, table, full_plan(table.widths))(images), model(images))


def test_tensors_really_shrink(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    small = sliced_copy(model, table, random_plan(table, 0.1))
    assert small.get_parameter("conv1.weight").shape == (8, 3, 3, 3)
    assert small.get_parameter("layer4.1.conv2.weight").shape == (48, 48, 3, 3)
    assert small.get_submodule("layer4.0.downsample.0").in_channels == 24
    assert sum(p.numel() for p in small.parameters()) < 0.012 * sum(p.numel() for p in model.parameters())
    assert model.get_parameter("conv1.weight").shape == (64, 3, 3, 3)


def test_slicing_twice_is_slicing_once(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    large = random_plan(table, 0.5)
    small = make_plan(table.widths, {g.name: g.kept[:: max(1, len(g.kept) // 8)] for g in large.groups})
    stepwise = sliced_copy(model, table, large)
    slice_model(stepwise, table, small, current=large)
    for a, b in zip(
        stepwise.state_dict().values(), sliced_copy(model, table, small).state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_momentum_is_sliced_with_the_weights(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    before = {n: optimizer.state[p]["momentum_buffer"].clone() for n, p in model.named_parameters()}
    plan = random_plan(table, 0.1)
    slice_model(model, table, plan, optimizer=optimizer)
    after = optimizer.state[model.get_parameter("conv1.weight")]["momentum_buffer"]
    assert torch.equal(after, before["conv1.weight"][list(plan["conv1"])])
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    optimizer.step()


def test_a_wrong_table_is_noticed(resnet: tuple[nn.Module, GroupTable]) -> None:
    """A dimension that points at the wrong channels makes the sliced model differ from the masked one."""
    from dataclasses import replace

    model, table = resnet
    first = table.groups[0]
    wrong = replace(first.dimensions[0], index=first.dimensions[0].index[::-1])
    broken = GroupTable((replace(first, dimensions=(wrong, *first.dimensions[1:])), *table.groups[1:]))
    with pytest.raises(PlanError, match="masked"):
        faithfulness(model, broken, random_plan(table, 0.5), torch.randn(2, 3, 32, 32))


def test_units_that_are_gone_cannot_be_kept(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    with pytest.raises(PlanError, match="no longer has"):
        slice_model(
            sliced_copy(model, table, random_plan(table, 0.1)),
            table,
            random_plan(table, 0.1, seed=1),
            current=random_plan(table, 0.1),
        )


def test_a_plan_for_another_base_is_refused(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    with pytest.raises(PlanError, match="another base model"):
        sliced_copy(model, table, full_plan({"conv1": 64}))


def test_a_network_in_which_nothing_can_be_sliced_is_refused() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 16, 3), nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(x).mean((2, 3)).sort(1).values)

    with pytest.raises(PlanError, match="nothing in this network"):
        find_groups(Sorted(), (16, 16))


class Beside(nn.Module):
    """A network whose second layer reads the first one's filters and, behind them, the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(11, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.cat([self.first(x), x], 1)).mean((2, 3)))


def test_positions_of_no_unit_stay_behind_the_last_unit_too() -> None:
    torch.manual_seed(0)
    model = Beside()
    table = find_groups(model, (8, 8))
    plan = make_plan(table.widths, {"first": [1, 6], "second": [0, 2, 3]})
    assert tuple(sliced_copy(model, table, plan).get_parameter("second.weight").shape) == (3, 5, 3, 3)
    assert faithfulness(model, table, plan, torch.randn(2, 3, 8, 8)) <= 1e-5


def test_masking_leaves_no_hook_behind(resnet: tuple[nn.Module, GroupTable]) -> None:
    model, table = resnet
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    with masked(model, table, random_plan(table, 0.1)):
        assert not torch.allclose(model(images), before)
    assert torch.equal(model(images), before)


class TestAverage:
    def test_one_voter_with_the_same_plan_is_copied(self, resnet: tuple[nn.Module, GroupTable]) -> None:
        model, table = resnet
        plan = random_plan(table, 0.1)
        base = sliced_copy(model, table, plan).state_dict()
        voter = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in base.items()}
        for key, value in average(table, plan, base, [(plan, voter)]).items():
            assert torch.allclose(value, voter[key])

    def test_entries_are_means_over_those_that_kept_both_ends(self, resnet: tuple[nn.Module, GroupTable]) -> None:
        model, table = resnet
        plan, a, b = (random_plan(table, 0.1, seed=s) for s in (0, 1, 2))
        base = sliced_copy(model, table, plan).state_dict()
        states = []
        for value, p in ((1.0, a), (2.0, b)):
            state = sliced_copy(model, table, p).state_dict()
            states.append((p, {k: torch.full_like(v, value) for k, v in state.items() if not k.startswith("fc")}))
        result = average(table, plan, base, states)
        name = "layer1.0.conv1"  # reads group conv1, writes its own
        for i, unit in enumerate(plan[name]):
            for j, channel in enumerate(plan["conv1"]):
                votes = [v for v, p in ((1.0, a), (2.0, b)) if unit in p[name] and channel in p["conv1"]]
                entry = result[f"{name}.weight"][i, j]
                expected = torch.full((3, 3), sum(votes) / len(votes)) if votes else base[f"{name}.weight"][i, j]
                assert torch.allclose(entry, expected)
        assert torch.equal(result["fc.weight"], base["fc.weight"])


@pytest.mark.parametrize("arch", ["resnet18-cifar", "resnext50_32x4d", "mobilenetv2_050"])
def test_sliced_weights_load_without_their_plan(arch: str) -> None:
    model, table = lively(arch)
    sliced = sliced_copy(model, table, random_plan(table, 0.4)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_sliced(arch, sliced.state_dict(), 7)(images), sliced(images))
    with pytest.raises(ValueError, match="missing"):
        load_sliced(arch, {k: v for k, v in sliced.state_dict().items() if not k.endswith("running_var")}, 7)
