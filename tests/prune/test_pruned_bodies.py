"""A ready-made body that keeps only some of the base's units: names and images make files of it as of the others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from mvp_edge.config import Budget, FitOverrides, PruneConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.models.bases import load_base
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import load_sliced, sliced_copy
from mvp_edge.models.tensors import compress, deserialise, serialise
from mvp_edge.prune.base_zoo import add_bodies, exported, write_body
from mvp_edge.prune.job import compress as prune
from mvp_edge.pruners import base_importance
from mvp_edge.pruners.units import top_plan
from mvp_edge.zoo.bodies import Body, BodyZoo, open_bodies
from tests.prune.body_zoo import make_body_zoo

KNOWN = ("apple", "crab", "rose")
PRUNED = "tiny-32-pruned"
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"


def opened(path: Path) -> BodyZoo:
    zoo = open_bodies(str(path))
    assert zoo is not None
    return zoo


@pytest.fixture(scope="module")
def made(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BodyZoo, KeepPlan]:
    path = make_body_zoo(tmp_path_factory.mktemp("zoo") / "tiny", images, KNOWN, (32,))
    (whole,) = opened(path).bodies
    base, network = load_base(str(path))
    prunable = PrunableModel.of(base, network)
    counts = {g.name: max(1, g.width // 2) for g in prunable.table.groups}
    plan = top_plan(prunable.table, base_importance(network, prunable.table), counts)
    packed = compress(
        serialise(
            sliced_copy(network, prunable.table, plan).state_dict(), "float16", {"plan": json.dumps(plan.to_json())}
        )
    )
    (path / "weights").mkdir()
    (path / "weights" / f"{PRUNED}.safetensors.gz").write_bytes(packed)
    own = load_sliced(base.arch, deserialise(packed)[0], len(KNOWN))
    width = own.get_classifier().in_features  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    nothing = {
        "basis": torch.zeros(0, width), "rows": torch.zeros(3, 0), "bias": torch.zeros(3), "exact": torch.zeros(0, 0),
        "coordinates": torch.zeros(0, 0), "labels": torch.zeros(0, dtype=torch.int16),
        "exact_classes": torch.zeros(0, dtype=torch.int16),
    }  # fmt: skip
    body = Body(PRUNED, 32, PRUNED, 0, 0, keep=round(plan.achieved, 6), curve=((2, 70.0),))
    body = write_body(path, body, own, exported(own, replace(base, classes=KNOWN)), nothing, "float16")
    add_bodies(path, [whole, body], (), "coloured squares")
    return opened(path), plan


def smallest(zoo: BodyZoo, tmp_path: Path, **more: Any) -> PruneConfig:
    task = tmp_path / "classes.txt"
    task.write_text("rose\napple\n")
    usual: dict[str, Any] = {"precision": "fp32", "device": "cpu", "zoo": str(zoo.path)}
    usual["budget"] = Budget(macs=zoo.bodies[-1].macs + 1000)
    return replace(PruneConfig(task, None, out=tmp_path / "out"), **(usual | more))


def same_in_torch(out: Path, zoo: BodyZoo, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Say whether the delivered weights compute in torch, as `docs/deploy.md` loads them, what the file computes."""
    (code,) = re.findall(r"## PyTorch.*?```python\n(.*?)```", DEPLOY.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(out.parent)
    found: dict[str, Any] = {}
    exec(code, found)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(zoo.about[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        wanted = found["network"]((image - mean) / std).numpy()
    logits = np.asarray(ort.InferenceSession(out / "model.onnx").run(None, {"image": image.numpy()})[0])
    return bool(np.allclose(logits, wanted, atol=2e-3))


def test_it_costs_less_and_says_what_it_keeps(made: tuple[BodyZoo, KeepPlan]) -> None:
    zoo, plan = made
    whole, pruned = zoo.bodies
    assert pruned.macs < 0.6 * whole.macs and pruned.params < 0.6 * whole.params
    assert (zoo.kept(whole), zoo.kept(pruned)) == (None, plan)
    assert zoo.verify() == []


def test_names_alone(made: tuple[BodyZoo, KeepPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, plan = made
    report = prune(smallest(zoo, tmp_path))
    assert report.body is not None and report.body.id == PRUNED
    written = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert KeepPlan.from_json(written) == plan and written["achieved_keep"] == pytest.approx(plan.achieved, abs=1e-6)
    assert same_in_torch(tmp_path / "out", zoo, monkeypatch)


def test_images_train_it(made: tuple[BodyZoo, KeepPlan], tmp_path: Path, images: Path) -> None:
    zoo, plan = made
    more = {"fit": FitOverrides(iterations=2, batch_size=4), "schedule": "fixed", "data": str(images)}
    report = prune(smallest(zoo, tmp_path, **more))
    assert report.body is not None and report.body.id == PRUNED
    assert report.photographs is not None and report.photographs.trained
    assert KeepPlan.from_json(json.loads((tmp_path / "out" / "plan.json").read_text())) == plan


@pytest.mark.parametrize(
    "plan", [None, "{}", "no JSON", '{"format": 1, "groups": [{"name": "a", "width": 2, "kept": [5]}]}']
)
def test_weights_that_do_not_say_what_they_keep(
    made: tuple[BodyZoo, KeepPlan], tmp_path: Path, plan: str | None
) -> None:
    path = Path(shutil.copytree(made[0].path, tmp_path / "own"))
    file = path / "weights" / f"{PRUNED}.safetensors.gz"
    file.write_bytes(compress(serialise(deserialise(file.read_bytes())[0], "float16", {"plan": plan} if plan else {})))
    value = json.loads((path / "zoo.json").read_text())
    value["bodies"][1]["sha256"][f"weights/{PRUNED}.safetensors.gz"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (path / "zoo.json").write_text(json.dumps(value))
    zoo = opened(path)
    with pytest.raises(ZooError, match="no record of the units it keeps"):
        zoo.kept(zoo.bodies[1])
    assert len(zoo.verify()) == 1
