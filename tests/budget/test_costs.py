from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from torch import nn

from mvp_edge.budget.costs import costs_of
from mvp_edge.export import export_onnx
from mvp_edge.models.architectures import head_name, set_head
from mvp_edge.models.groups import find_groups
from mvp_edge.models.macs import count_macs, count_params, macs_by_module
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners import random_plan
from tests.transformers import drawn_plan, small_vit

SIZE = (32, 32)


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "resnet18"])
def test_costs_are_those_of_the_sliced_network(arch: str, tmp_path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=10).eval()
    for tensor in model.parameters():  # zeros would make tensors alike, and those are stored once
        if tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    head = head_name(model)
    table = find_groups(model, SIZE)
    costs = costs_of(model, table, SIZE, head, 3)
    draw = np.random.default_rng(0)
    graphs = []
    for low in (0.1, 0.4, 1.0):
        counts = {g.name: max(1, int(low * g.width)) for g in table.groups}
        sliced = sliced_copy(model, table, random_plan(table, counts, draw)).eval()
        set_head(sliced, nn.Linear(cast(nn.Linear, sliced.get_submodule(head)).in_features, 3))
        row = costs.counts(counts)
        assert costs.params(row) == count_params(sliced)
        assert costs.macs(row) == pytest.approx(count_macs(sliced, SIZE), rel=1e-4)
        assert costs.by_name(row) == counts
        sliced.eval()
        file = tmp_path / f"{low}.onnx"
        three = [0.5] * 3
        export_onnx(sliced, file, input_size=SIZE, mean=three, std=three, labels=list("abc"), metadata={})
        graphs.append(file.stat().st_size - float(costs.stored(row)))
    assert max(graphs) - min(graphs) < 500  # what is left over is the graph, whatever the widths


@pytest.mark.parametrize("embedding", ["whole", "pruned"])
def test_costs_of_a_transformer(embedding: Any, tmp_path: Path) -> None:
    model = small_vit()
    table = find_groups(model, SIZE, embedding)
    costs = costs_of(model, table, SIZE, "head", 3)
    graphs = []
    for keep in (0.01, 0.4, 1.0):
        plan = drawn_plan(table, keep)
        sliced = sliced_copy(model, table, plan)
        set_head(sliced, nn.Linear(cast(nn.Linear, sliced.get_submodule("head")).in_features, 3))
        row = costs.counts(plan.counts)
        assert costs.params(row) == count_params(sliced)
        assert costs.macs(row) == pytest.approx(count_macs(sliced.eval(), SIZE), rel=1e-6)
        three = [0.5] * 3
        export_onnx(
            sliced, tmp_path / "m.onnx", input_size=SIZE, mean=three, std=three, labels=list("abc"), metadata={}
        )
        graphs.append((tmp_path / "m.onnx").stat().st_size - float(costs.stored(row)))
    assert max(graphs) - min(graphs) < 1000


def test_the_floor_of_heads_and_nodes_is_the_embedding() -> None:
    model = small_vit()
    floors = []
    for embedding in ("whole", "pruned"):
        table = find_groups(model, SIZE, embedding)
        costs = costs_of(model, table, SIZE, "head", 7)
        floors.append(costs.fraction_left(np.ones(len(costs.names), int)))
        assert costs.fraction_left(costs.widths) == (1, 1)
    assert min(floors[0]) > 0.2 and max(floors[1]) < 0.1


def test_multiply_adds_by_module_add_up() -> None:
    model = timm.create_model("test_resnet", num_classes=10).eval()
    own = macs_by_module(model, SIZE)
    assert sum(own.values()) == count_macs(model, SIZE)
    assert own["fc"] == model.get_parameter("fc.weight").numel()
