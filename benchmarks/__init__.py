"""Experiments that back the project's claims: one script a question, results under `results/`."""

from pathlib import Path

# Zoos of CIFAR-100. They are read by path: what is added to one is written there.
RESNET_ZOO, VIT_ZOO = (str(Path(__file__).parent / "zoos" / name) for name in ("cifar100-resnet18", "cifar100-vit"))
