"""Does everything that computes on a GPU agree with the CPU, how fast is it, and what memory does it take?

python -m benchmarks gpu [--minutes 10]

It needs neither images nor a network: pictures are made up, weights random. What fails is said at the end, and the exit
status is 1. `--small --device cpu` tries the script itself where there is no GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import records
from benchmarks.command import Script
from mvp_edge.build.jobs import plan_jobs
from mvp_edge.build.launch import Resources, drive, engine
from mvp_edge.build.members import build_specialists
from mvp_edge.build.pretrain import pretrain
from mvp_edge.config import BuildConfig, FitOverrides, PretrainConfig, PruneConfig, PruneSchedule, VoteConfig
from mvp_edge.core.device import Machine, on_device, on_host, resolve_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.export import export_onnx
from mvp_edge.export.classifier import OnnxClassifier
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import Base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import faithfulness, sliced_copy
from mvp_edge.prune.job import compress
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.training.loop import predict
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo

SILENT = SilentProgress()
NOUNS = ("espresso", "teapot", "laptop", "bicycle", "dog", "cat", "banana", "piano", "violin", "canoe")
TOLERANCE = 1e-3  # of ONNX Runtime and the GPU: largest difference of logits to their spread, in float32
LAST_S = 90.0  # that the last step may take beyond the time


@dataclass(frozen=True)
class Scale:
    """How much is computed: meant for ten minutes of a recent card; `SMALL` takes seconds of a CPU."""

    archs: tuple[str, ...] = ("resnet18", "mobilenetv2_100", "efficientnet_lite0", "deit_tiny_patch16_224")
    pixels: int = 224
    classes: int = 10
    train: int = 64
    test: int = 8
    zoo_arch: str = "resnet18-cifar"
    zoo_pixels: int = 32
    zoo_steps: int = 20
    pretrain_base: str = "timm:resnet18"
    epochs: float = 4.0
    side_by_side: tuple[int, ...] = (1, 2, 4)
    jobs: int = 8
    job_steps: int = 200
    photographs: bool = True


SMALL = Scale(
    archs=("test_resnet",), pixels=32, classes=4, train=6, test=2, zoo_arch="test_resnet", zoo_steps=2,
    pretrain_base="timm:test_resnet", epochs=1.0, side_by_side=(1,), jobs=2, job_steps=2,
    photographs=False,
)  # fmt: skip


class Bench:
    """The made-up pictures and the zoo that all steps share.

    Args:
        scale: How much is computed.
        device: What is checked against the CPU.
        scratch: An empty directory.
    """

    def __init__(self, scale: Scale, device: torch.device, scratch: Path) -> None:
        self.scale, self.device, self.scratch = scale, device, scratch
        self.names = NOUNS[: scale.classes]
        self.images = self._pictures("images", scale.pixels)
        self.zoo = self._zoo()

    def steps(self) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
        """Return the steps by name, the checks before what is timed."""
        found: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            (f"sliced equals masked, and ONNX eager: {arch}", partial(self.agrees, arch)) for arch in self.scale.archs
        ]
        found += [("same plan as on the CPU", self.same_plan)]
        if self.scale.photographs:
            found += [("prune with images", self.prune_with_images)]
        found += [("pretraining", self.pretraining)]
        found += [(f"members, {n} at a time", partial(self.members, n)) for n in self.scale.side_by_side]
        return found

    def agrees(self, arch: str) -> dict[str, Any]:
        """Slice a network on the device, compare it with the masked one, and its file with it."""
        size = (self.scale.pixels, self.scale.pixels)
        base = Base(arch, arch, size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), self.names)
        torch.manual_seed(0)
        prunable = PrunableModel.of(base, new_model(arch, len(self.names)).eval())
        counts = target_counts(prunable.table, 0.3, 8)
        plan = top_plan(prunable.table, base_importance(prunable.model, prunable.table), counts)
        images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
        model = on_device(prunable.model, self.device)
        worst = faithfulness(model, prunable.table, plan, images.to(self.device))
        cut = sliced_copy(model, prunable.table, plan)
        pixels = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        eager = predict(cut.eval(), pixels, base, self.device)
        file = self.scratch / "agrees.onnx"
        export_onnx(
            on_host(cut), file, input_size=size, mean=base.mean, std=base.std,
            labels=self.names, metadata={},
        )  # fmt: skip
        found = torch.as_tensor(OnnxClassifier(file).predict(pixels))
        spread = float((eager - eager.mean(0)).abs().max())
        difference = float((found - eager).abs().max()) / spread
        if not difference <= TOLERANCE:
            raise ConfigError(
                f"ONNX Runtime differs by {difference:.2g} of the spread; at most {TOLERANCE:g} is expected"
            )
        return {"sliced_vs_masked": worst, "onnx_vs_eager": difference}

    def same_plan(self) -> dict[str, Any]:
        """Vote for a class list on the CPU and on the device."""
        plans = []
        for device in ("cpu", str(self.device)):
            out = self.scratch / f"plan-{device.replace(':', '-')}-{len(plans)}"
            report = compress(
                PruneConfig(
                    self._list(),
                    str(self.images),
                    out=out,
                    zoo=str(self.zoo.path),
                    device=device,
                    precision="fp32",
                    vote=VoteConfig(keep=0.5, channel_multiple=4, neighbours=2),
                    fit=FitOverrides(iterations=0),
                )
            )
            plan = json.loads((out / "plan.json").read_text())
            plans.append(([v.id for v in report.voters], plan["groups"]))
        if plans[0] != plans[1]:
            raise ConfigError(f"the voters on the CPU are {plans[0][0]}, on {self.device} {plans[1][0]}; plans differ")
        return {"voters": len(plans[0][0]), "groups": len(plans[0][1])}

    def prune_with_images(self) -> dict[str, Any]:
        """Run the main job with images on the bundled zoo."""
        out = self.scratch / "photographs"
        report = compress(PruneConfig(self._list(), str(self.images), out=out, device=str(self.device)))
        return {"seconds_by_stage": report.seconds, "images": self.scale.train * len(self.names)}

    def pretraining(self) -> dict[str, Any]:
        """Train a base for a few epochs."""
        begin = time.perf_counter()
        out = self.scratch / "base.safetensors"
        pretrain(
            PretrainConfig(self.scale.pretrain_base, str(self.images), out, self.scale.epochs, device=str(self.device)),
            SILENT,
        )
        seen = self.scale.epochs * self.scale.train * len(self.names)
        return {"images_per_s": round(seen / (time.perf_counter() - begin), 1), "images": seen}

    def members(self, at_a_time: int) -> dict[str, Any]:
        """Make members in so many processes on one device."""
        config = BuildConfig(
            self.scale.jobs, 2, PruneSchedule(keep=0.5, channel_multiple=4), seed=100 + at_a_time, parent="base",
            fit=FitOverrides(iterations=self.scale.job_steps),
        )  # fmt: skip
        source = open_source(str(self.images))
        jobs = plan_jobs(self.zoo.path, str(self.images), source, [], config, Machine(str(self.device), 1))
        cores = len(os.sched_getaffinity(0))
        begin = time.perf_counter()
        with engine("local", Resources(cpus=max(1, cores // at_a_time)), self.scratch / "logs") as submit:
            drive(jobs, submit, SILENT)
        hours = (time.perf_counter() - begin) / 3600
        return {"members_per_hour": round(len(jobs) / hours, 1), "members": len(jobs), "start_included": True}

    def _list(self) -> Path:
        file = self.scratch / "classes.txt"
        file.write_text("\n".join(self.names[:3]))
        return file

    def _pictures(self, name: str, pixels: int) -> Path:
        """Write noise about a colour for each class."""
        draw = np.random.default_rng(0)
        for split, count in (("train", self.scale.train), ("test", self.scale.test)):
            for label in self.names:
                folder = self.scratch / name / split / label
                folder.mkdir(parents=True)
                colour = np.random.default_rng(len(label)).uniform(0, 255, 3)
                for i in range(count):
                    noise = colour + draw.normal(0, 40, (pixels, pixels, 3))
                    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png", compress_level=1)
        return self.scratch / name

    def _zoo(self) -> Zoo:
        """Make a zoo of a network of random weights with a few members, on the CPU."""
        side, arch = self.scale.zoo_pixels, self.scale.zoo_arch
        base = Base(arch, arch, (side, side), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), self.names)
        torch.manual_seed(0)
        zoo = create_zoo(self.scratch / "zoo", base, new_model(arch, len(self.names)))
        prunable = PrunableModel.of(zoo.base, zoo.load_base())
        config = BuildConfig(
            3, 2, PruneSchedule(keep=0.5, channel_multiple=4),
            fit=FitOverrides(iterations=self.scale.zoo_steps, distill=0),
        )  # fmt: skip
        source, cpu = open_source(str(self.images)), torch.device("cpu")
        build_specialists(zoo, prunable, source, config, device=cpu, progress=SILENT)
        return open_zoo(str(zoo.path))


def run(scale: Scale, device: torch.device, minutes: float) -> list[dict[str, Any]]:
    """Take all steps for which there is time; return each with its result, or what went wrong."""
    begin, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(scale, device, Path(scratch))
        for name, step in bench.steps():
            if time.perf_counter() - begin > 60 * minutes - LAST_S:
                results.append({"step": name, "skipped": "no time left"})
            else:
                results.append({"step": name, **measured(step, device)})
            print(json.dumps(results[-1]), flush=True)
    return results


def measured(step: Callable[[], dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """Return a step's result with its seconds and its memory on a GPU, or what went wrong."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    try:
        found = step()
    except Exception as e:  # noqa: BLE001 - whatever it is, it belongs into the record, and the other steps go on
        found = {"failed": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
    memory = {"peak_mib": torch.cuda.max_memory_allocated(device) >> 20} if cuda else {}
    return {**found, "seconds": round(time.perf_counter() - begin, 2), **memory}


def main(argv: Sequence[str]) -> None:
    """Take the steps and append a record; the exit status is 1 if one failed, 2 without a GPU."""
    script = Script("gpu", __doc__)
    script.add("--minutes", type=float, default=10.0)
    script.add("--device", default="cuda")
    script.add("--small", action="store_true", help="try the script itself: no record is written")
    args = script.parse(argv)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("this machine has no CUDA device, so nothing was checked; try the script with: --small --device cpu")
        sys.exit(2)
    device = resolve_device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as ONNX Runtime computes
    scale = SMALL if args.small else Scale()
    results = run(scale, device, args.minutes)
    if not args.small:
        config = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)}
        records.append("gpu", config, {"steps": results}, device)
    if failed := [r for r in results if "failed" in r]:
        print("\n".join(f"failed: {r['step']}: {r['failed']}" for r in failed))
        sys.exit(1)
