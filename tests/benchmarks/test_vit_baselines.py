"""What defines the baselines on vision transformers holds, on a tiny random one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import timm
import torch

from benchmarks.baselines import uvc
from benchmarks.baselines.power import Power, PowerViT, attended, kept_tokens
from benchmarks.baselines.uvc import (
    GatedBlock,
    Ledger,
    Uvc,
    cut,
    dual_step,
    enforced,
    fixed_macs,
    keep_units,
    scale_units,
    tokens_of,
    unit_norms,
)
from benchmarks.cost import CostMeter
from benchmarks.rows import ahnp_row
from mvp_edge.config import FitConfig, ScoreSchedule
from mvp_edge.data import ImageSet
from mvp_edge.models.macs import count_macs
from mvp_edge.names.tasks import Task, TaskClass
from tests.bases import small_base

BASE = small_base("vit_tiny_patch16_224")
FEW = FitConfig(iterations=8, batch_size=8, lr=1e-3, optimizer="adamw")


def tiny() -> Any:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=4
    ).eval()


@dataclass(frozen=True)
class TinySetting:
    """What the baselines read of a setting."""

    prunable: Any
    task: Task
    train: ImageSet
    device: torch.device
    seed: int = 0

    @property
    def teacher(self) -> torch.Tensor:
        """Logits that no image deserves."""
        return torch.zeros(len(self.train), 2)


@pytest.fixture
def setting() -> Any:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(24) % 2
    images[labels == 1, 0] //= 4
    task = Task((TaskClass("a"), TaskClass("b")))
    prunable = SimpleNamespace(model=tiny(), base=BASE)
    return TinySetting(prunable, task, ImageSet(images, labels, task.names), torch.device("cpu"))


def test_a_power_network_that_drops_nothing_is_the_network_itself() -> None:
    vit, images = tiny(), torch.randn(2, 3, 32, 32)
    model = PowerViT(vit).eval()
    expected = vit(images)
    assert torch.allclose(model(images), expected, atol=1e-5)
    model.kept = (model.tokens,) * 3
    assert torch.allclose(model(images), expected, atol=1e-5)


def pooled_vit() -> Any:
    """A transformer without a class token, as the bundled one is."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=4, class_token=False, global_pool="avg", **sizes
    ).eval()  # fmt: skip


@pytest.mark.parametrize("make", [tiny, pooled_vit])
def test_a_token_without_weight_is_as_good_as_dropped(make: Callable[[], Any]) -> None:
    images, model = torch.randn(2, 3, 32, 32), PowerViT(make()).eval()
    kept = (9, 6, 2)
    with torch.no_grad():
        for row, count in zip(model.retention, kept, strict=True):
            row[count:] = 0
        soft = model(images)
        model.kept = kept
        hard = model(images)
    assert torch.allclose(soft, hard, atol=1e-5)
    model.kept = (model.tokens,) * 3
    assert not torch.allclose(model(images), hard, atol=1e-3)


def test_attention_received_is_what_others_pay() -> None:
    vit, weight = tiny(), torch.ones(2, 17)
    weight[:, 3] = 0
    _, received = attended(vit.blocks[0], torch.randn(2, 17, 24), weight)
    assert received.shape == (2, 17)
    assert (received >= 0).all()
    assert (received.sum(1) < 16).all()  # each of 16 tokens pays 1 in all, a part of it to itself
    assert (received[:, 3] == 0).all()


def test_kept_tokens_never_grow_with_depth_and_make_up_the_share() -> None:
    generator = torch.Generator().manual_seed(0)
    falling = torch.arange(6, 0, -1)[:, None].expand(6, 64) / 60
    for learnt in (torch.rand(6, 64, generator=generator), falling, torch.full((6, 64), 0.005), torch.zeros(6, 64)):
        for share in (0.05, 0.107, 0.5, 1.0):
            kept = kept_tokens(learnt, share)
            assert list(kept) == sorted(kept, reverse=True)
            assert all(1 <= k <= 64 for k in kept)
            assert sum(kept) == int(share * 6 * 64)
    assert kept_tokens(falling, 0.1)[0] > kept_tokens(falling, 0.1)[-1]
    rising = torch.arange(1, 7)[:, None].expand(6, 64) / 6
    assert len(set(kept_tokens(rising, 0.5))) == 1  # a block cannot pass on what the one before has dropped
    assert kept_tokens(torch.ones(3, 10), 1.0) == (10, 10, 10)
    assert kept_tokens(torch.ones(3, 10), 0.01) == (1, 1, 1)


def test_power_passes_on_the_most_attended_tokens_and_the_class_token() -> None:
    model = PowerViT(tiny()).eval()
    model.kept = (4, 2, 1)
    x, received = torch.randn(1, 17, 24), torch.rand(1, 17)
    out, weight = model._extract(x, torch.ones(1, 17), received, 0)
    best = received[0, 1:].topk(4).indices + 1
    assert weight.shape == (1, 5)
    assert torch.equal(out[0, 0], x[0, 0])
    assert torch.equal(out[0, 1:], x[0, best])


def test_power_ends_with_fewer_tokens_and_less_work(setting: Any) -> None:
    model = Power(keep=0.25)(setting, FEW)
    assert model.kept is not None
    assert list(model.kept) == sorted(model.kept, reverse=True)
    assert sum(model.kept) <= 0.25 * 16 * 3
    assert count_macs(model, (32, 32)) < 0.7 * count_macs(setting.prunable.model, (32, 32))
    with CostMeter() as meter:
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 2)
    assert meter.macs > 0
    assert not model.retention._backward_hooks


def test_power_asks_for_fewer_tokens_only_while_it_retains_too_many() -> None:
    power, task = Power(keep=0.5, sparsity=0.1), torch.randn(3, 4)
    assert torch.equal(power._penalised(torch.full((3, 4), 0.4), task), task)
    many = torch.tensor([1.3, -0.2, 0.9, 0.8]).expand(3, 4).clone()
    pull = power._penalised(many, task) - task
    assert torch.allclose(pull, torch.tensor([[0.1], [0.2], [0.3]]).expand(3, 4))
    assert many.min() > 0 and many.max() < 1


def test_what_is_cut_from_a_block_is_what_zeros_would_do() -> None:
    images, masked, sliced = torch.randn(2, 3, 32, 32), tiny(), tiny()
    for kind, gone, keep in (("heads", [1], [0, 2]), ("nodes", list(range(50)), list(range(50, 96)))):
        for m, s in zip(masked.blocks, sliced.blocks, strict=True):
            if kind == "nodes":
                m.mlp.fc1.bias.data[gone] = 0
            scale_units(m, kind, torch.tensor(gone), 0.0)
            assert torch.count_nonzero(unit_norms(m, kind)) == len(keep)
            keep_units(s, kind, torch.tensor(keep))
    assert torch.allclose(masked(images), sliced(images), atol=1e-5)


def test_the_ledger_prices_a_network_as_fvcore_does() -> None:
    vit = tiny()
    ledger = Ledger([GatedBlock(b) for b in vit.blocks], tokens_of(vit), fixed_macs(vit))
    assert ledger.dense == pytest.approx(count_macs(vit, (32, 32)), rel=0.05)  # fvcore adds the norms
    assert ledger.flops(gates=torch.ones(3)) == pytest.approx(1.0)


@pytest.mark.parametrize("bound", [0.6, 0.3, 0.2])
def test_what_uvc_leaves_meets_the_bound(bound: float) -> None:
    vit = tiny()
    dense = count_macs(vit, (32, 32))
    ledger = Ledger([GatedBlock(b) for b in vit.blocks], tokens_of(vit), fixed_macs(vit))
    choice = enforced(ledger, bound)
    assert ledger.flops(*choice) <= bound
    vit.blocks = torch.nn.Sequential(*cut(ledger, choice))
    assert vit(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert count_macs(vit, (32, 32)) <= (bound + 0.05) * dense
    assert ledger.flops(*choice) > 0.5 * bound  # and does not throw away much more than it must


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_what_uvc_took_below_the_bound_comes_back(share: float) -> None:
    vit = tiny()
    ledger = Ledger([GatedBlock(b) for b in vit.blocks], tokens_of(vit), fixed_macs(vit))
    ledger.out = share * ledger.sizes.double()
    out, gates = enforced(ledger, 0.5)
    assert 0.5 - float(ledger.unit.max()) < ledger.flops(out, gates) <= 0.5


def test_uvc_shrinks_what_is_to_go_to_next_to_nothing() -> None:
    vit = tiny()
    ledger = Ledger([GatedBlock(b) for b in vit.blocks], tokens_of(vit), fixed_macs(vit))
    before = unit_norms(vit.blocks[0], "nodes").norm()
    for _ in range(50):
        dual_step(ledger, Uvc(keep=0.3))
    norms = unit_norms(vit.blocks[0], "nodes").sort().values[: int(ledger.out[0, 1])]
    assert len(norms) > 10
    assert norms.norm() < 0.05 * before


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_uvc_is_taught_by_the_base(setting: Any, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers: list[Any] = []
    monkeypatch.setattr(uvc, "fit", lambda model, source, config, **kwargs: teachers.append(source.teacher))
    Uvc(keep=0.4)(setting, replace(FEW, distill=share))
    assert len(teachers) == 2  # the search and the fine-tuning
    assert all((t is None) == (share == 0) for t in teachers)


def test_a_bound_below_the_embedding_is_refused() -> None:
    vit = tiny()
    ledger = Ledger([GatedBlock(b) for b in vit.blocks], tokens_of(vit), fixed_macs(vit))
    with pytest.raises(ValueError, match="without any block"):
        enforced(ledger, 0.001)


def test_the_price_of_flops_rises_until_the_bound_holds(setting: Any) -> None:
    prices = []

    class Watched(Uvc):
        def _search(self, vit: Any, ledger: Ledger, setting: Any, config: FitConfig) -> None:
            super()._search(vit, ledger, setting, config)
            prices.append((ledger.price, ledger.flops(), float(ledger.out.sum())))

    model: Any = Watched(keep=0.4)(setting, FEW)
    price, flops, removed = prices[0]
    assert price > 0
    assert flops < 1
    assert removed > 0
    assert count_macs(model, (32, 32)) <= 0.45 * count_macs(setting.prunable.model, (32, 32))
    assert not any(isinstance(b, GatedBlock) for b in model.blocks)


def test_rows_of_ahnp_tell_the_rate_of_the_weights_and_that_of_the_scores() -> None:
    hyper = ahnp_row(cast(Any, SimpleNamespace(steps=lambda n: n)), 1000, rate=2e-4).hyper
    assert hyper["lr"] == 2e-4
    assert hyper["scores"]["lr"] == ScoreSchedule().lr != 2e-4
