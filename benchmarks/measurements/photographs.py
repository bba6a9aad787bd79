"""How often is a network right about photographs by names alone? Random class lists, outputs restricted to them.

    python -m benchmarks photographs --pictures samples=DIR --pictures caltech=DIR [--network FILE] [--pixels 64]

A directory holds pictures `WNID_name.jpg` or `WNID/*`. A record has the 1,000-way accuracy, that of random five-way
lists, and multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import lite0
from benchmarks.command import Script, log
from benchmarks.measurements import teach
from mvp_edge.core.device import on_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.streams import rng
from mvp_edge.models.macs import count_macs
from mvp_edge.training.loop import predict

COLUMN = {wnid: i for i, wnid in enumerate(lite0.WNIDS)}


def labelled(directory: Path) -> tuple[list[Path], np.ndarray]:
    """Return the pictures below a directory and their base classes, by the wnid in their own or their folder's name.

    Raises:
        ConfigError: a picture has none.
    """
    found = teach.pictures(directory)
    words = [next((w for w in (p.name.split("_")[0], *p.parts[::-1]) if w in COLUMN), None) for p in found]
    nameless = [p for p, w in zip(found, words, strict=True) if w is None]
    if nameless or not found:
        raise ConfigError(f"{directory} holds no pictures, or one without a wnid: {nameless[:1]}")
    return found, np.array([COLUMN[w] for w in words if w is not None])


def five_way(logits: np.ndarray, labels: np.ndarray, lists: int, ways: int = 5) -> float:
    """Return the mean accuracy in percent over random lists of the classes that occur, outputs restricted to a list."""
    present, draw, found = np.unique(labels), rng(1, "lists"), []
    rows = {c: np.flatnonzero(labels == c) for c in present}
    for _ in range(lists):
        chosen = draw.choice(present, ways, replace=False)
        index = np.concatenate([rows[c] for c in chosen])
        found.append(float((chosen[logits[index][:, chosen].argmax(1)] == labels[index]).mean()))
    return 100 * float(np.mean(found))


def main(argv: Sequence[str]) -> None:
    """Test a network, or the base, on directories of photographs; append a record for each."""
    script = Script("photographs", __doc__)
    script.add("--pictures", action="append", required=True, metavar="NAME=DIR")
    script.add("--network", type=Path, help="what `distil` wrote; default: the base as it is")
    script.add("--pixels", type=int, default=224)
    script.add("--lists", type=int, default=2000)
    args = script.parse(argv)
    base, network = lite0.load(args.network, args.pixels)
    macs = count_macs(network, base.input_size)
    for text in args.pictures:
        name, _, directory = text.partition("=")
        found, labels = labelled(Path(directory))
        images = [read for p in found if (read := teach.read(p, 2 * args.pixels)) is not None]
        size = (args.pixels,)
        arrays = [teach.squares(i, teach.centre(*i.size), size)[0] for i in images]
        logits = predict(
            on_device(network, torch.device("cpu")), torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2), base,
            torch.device("cpu"),
        ).numpy()  # fmt: skip
        config = {"pictures": name, "network": args.network and args.network.stem, "pixels": args.pixels}
        result = {
            "n": len(labels), "classes": len(np.unique(labels)), "macs": macs, "lists": args.lists,
            "top1": round(100 * float((logits.argmax(1) == labels).mean()), 2),
            "five_way": round(five_way(logits, labels, args.lists), 2),
        }  # fmt: skip
        log.info("%s %s", config, result)
        script.record({**config, "recipe": base.recipe}, result)
