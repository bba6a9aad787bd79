"""A made-up report with realistic numbers, as `prune` would write it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from mvp_edge.config import FitConfig, VoteConfig
from mvp_edge.report import Sample, image_uri

CLASSES = ["apple", "orange", "pear", "mushroom", "sweet_pepper"]
WIDTHS = {"stem": (64, 8)} | {
    f"layer{s}.{b}": (w, k) for s, (w, k) in enumerate([(64, 8), (128, 16), (256, 24), (512, 48)], 1) for b in (0, 1)
}
WIDTHS |= {f"layer{s}": (w, k) for s, (w, k) in enumerate([(128, 16), (256, 24), (512, 48)], 2)}


def example_units() -> dict[str, list[int]]:
    """Return the kept units by group: a few runs."""
    generator = np.random.default_rng(1)
    return {n: sorted(generator.choice(w, k, replace=False).tolist()) for n, (w, k) in WIDTHS.items()}


def example_report() -> dict[str, Any]:
    """Return the content of `report.json`; change what a test is about."""
    confusion = [[92, 3, 3, 1, 1], [2, 94, 1, 0, 3], [5, 2, 88, 3, 2], [1, 0, 2, 95, 2], [1, 6, 2, 2, 89]]
    cifar = ["apple", "orange", "pear", "sweet_pepper", "mushroom", "aquarium_fish", "baby", "bear", "beaver", "bed"]
    cifar += [f"class_{i}" for i in range(90)]
    neighbours = [
        ("all-of-cifar100", cifar, -0.31, "generalist"),
        ("3f0a91c2d7be", ["apple", "cup", "pear", "rose", "whale"], -0.74, "specialist"),
        ("b81c07e4a95d", ["lobster", "orange", "plain", "sweet_pepper", "wolf"], -0.92, "specialist"),
        ("09de22b6f1c3", ["mushroom", "orchid", "poppy", "shrew", "tulip"], -1.18, "specialist"),
        ("77a4bb01ec52", ["bottle", "orange", "pine_tree", "ray", "tank"], -1.37, "specialist"),
    ]
    return {
        "task": {"id": "5d2ce1f00a7b", "classes": CLASSES, "synsets": [None] * 5},
        "base": "resnet18-cifar100",
        "method": "meta-vote pruning",
        "origin": "vote",
        "voters": [{"id": i, "classes": c, "similarity": s, "kind": b, "keep": 0.1} for i, c, s, b in neighbours],
        "keep": {"requested": 0.1, "achieved": 0.0952},
        "groups": [{"name": n, "width": w, "kept": k, "requested": k} for n, (w, k) in WIDTHS.items()],
        "accuracy": {
            "top1_before": None,
            "top1": 91.6,
            "n": 500,
            "interval": [88.8, 93.7],
            "source": "cifar100, test split",
            "per_class": dict(zip(CLASSES, [92.0, 94.0, 88.0, 95.0, 89.0], strict=True)),
            "confusion": confusion,
            "balanced": 91.6,
        },
        "pictures": {
            "given": 3_104,
            "used": {"train": 2_500, "test": 497},
            "aside": {"in extra, which is not one of the splits train, test": 104, "copies of training images": 3},
            "copies": 7,
            "copied": [["test/apple/7.png", "train/apple/31.png"]],
            "two_classes": [["train/orange/4.png", "train/pear/9.png"]],
            "summary": "3,104 files: 2,500 train, 497 test, of 5 classes; 107 set aside",
            "leaks": ["490 of 500 images of apple are PNG files, and 3 of 2,000 others"],
            "coarse": 41.5,
        },
        "params": 105_037,
        "base_params": 11_220_132,
        "macs": 7_245_296,
        "base_macs": 556_651_520,
        "unprunable_macs": 96_052,
        "nominal_training_tflops": 0.427,
        "bytes": {"onnx": 428_833, "parameters": 418_240, "dense_onnx": 45_027_000},
        "base_accuracy": None,
        "names": [],
        "estimate": None,
        "known": None,
        "body": None,
        "photographs": None,
        "budget": None,
        "sizes": [],
        "interpolation": None,
        "operators": {"Conv": 20, "Relu": 17, "Add": 8, "Gemm": 1},
        "precisions": {
            "requested": "auto",
            "files": [
                {
                    "precision": "fp32",
                    "file": "model.onnx",
                    "kept": True,
                    "passed": True,
                    "reasons": [],
                    "top1": 91.6,
                    "bytes": 428_833,
                    "latency_ms": {"median": 0.2264, "iqr": 0.0091, "p95": 0.27},
                    "time_ratio": 1.0,
                },
                {
                    "precision": "int8",
                    "file": "model-int8.onnx",
                    "kept": True,
                    "passed": True,
                    "reasons": [
                        "top-1 is 0.20 points lower",
                        "0.80 times the time and 0.32 times the bytes of float32",
                    ],
                    "top1": 91.4,
                    "bytes": 136_624,
                    "latency_ms": {"median": 0.1811, "iqr": 0.006, "p95": 0.2},
                    "time_ratio": 0.8,
                },
            ],
        },
        "latency_ms": {
            "dense": {"median": 9.66, "iqr": 0.41, "p95": 10.6},
            "pruned": {"median": 0.2264, "iqr": 0.0091, "p95": 0.27},
            "threads": 1,
            "runs": 160,
            "clock": "processor",
        },
        "seconds": {
            "load": 3.8,
            "rank": 2.96,
            "vote": 0.02,
            "slice": 0.81,
            "fine_tune": 9.4,
            "evaluate": 0.42,
            "measure": 2.7,
            "export": 0.21,
            "total": 21.3,
        },
        "parity_max_abs_diff": 5.96e-7,
        "sliced_vs_masked_max_abs_diff": 0.0,
        "largest_rank": 4,
        "zoo": "cifar100-resnet18",
        "added_member": None,
        "data": "cifar100",
        "data_sha256": "00",
        "data_held_out": 0,
        "out": "out",
        "input": "float32-nchw",
        "interface": {
            "input": {
                "name": "image",
                "dtype": "float32",
                "layout": "NCHW",
                "shape": [None, 3, 32, 32],
                "height": 32,
                "width": 32,
                "channels": "RGB",
                "range": [0.0, 1.0],
            },
            "normalisation": {"inside_model": True, "rule": "feed plain pixels divided by 255"},
            "resize": {"rule": "cover and centre-crop", "steps": ["scale it"]},
            "output": {"name": "logits", "shape": [None, 5], "meaning": "logits", "temperature": 1.0},
            "known": None,
        },
        "files": ["model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html"],
        "seed": 0,
        "settings": {
            "vote": asdict(VoteConfig(similarity="leep")),
            "fit": asdict(FitConfig(lr=0.05)),
        },
        "environment": {
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "processor": "Intel(R) Xeon(R) Platinum 8488C",
            "cores": 2,
            "bf16": True,
            "packages": {"torch": "2.15.0", "timm": "1.0.31", "onnxruntime": "1.31.1"},
        },
        "warnings": [
            "sweet_pepper has several meanings in WordNet; the plant was taken. Write `sweet_pepper = NAME` to choose.",
            "The smallest group keeps 8 of 64 units where 6 were asked for (--channel-multiple 8).",
        ],
    }


def example_samples() -> tuple[Sample, ...]:
    """Return one sample a class, the last one wrong."""
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    image = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32)), np.full((32, 32), 90, np.uint8)])
    said = [*CLASSES[:-1], "orange"]
    return tuple(Sample(image_uri(np.roll(image, i, 0)), CLASSES[i], said[i], 0.97 - 0.1 * i) for i in range(5))
