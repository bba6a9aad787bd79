"""How good is the tool without images over all class lists? From the outputs that a zoo stores, for random lists.

    python -m benchmarks population [--zoo NAME] [--lists 1000] [--ways 5]

Without images a generalist is delivered as it is, with the rows of the classes asked for; what it scores on the test
images of a list follows from its stored outputs. One record for each generalist of the zoo; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.command import Script
from mvp_edge.core.streams import rng
from mvp_edge.zoo.member import Outputs


def accuracies(outputs: Outputs, ways: int, lists: int, seed: int) -> np.ndarray:
    """Return the accuracy in percent of random class lists of a network with these outputs `(lists,)`."""
    logits, labels = outputs.logits.numpy(), outputs.labels.numpy()
    images = [logits[labels == c] for c in range(logits.shape[1])]
    draw, found = rng(seed, f"population/{ways}"), []
    for _ in range(lists):
        classes = draw.choice(logits.shape[1], ways, replace=False)
        right = [images[c][:, classes].argmax(1) == i for i, c in enumerate(classes)]
        found.append(100 * np.concatenate(right).mean())
    return np.array(found)


def main(argv: Sequence[str]) -> None:
    """Compute the figures of every generalist and append records."""
    script = Script("population", __doc__, "zoo", "seed")
    script.add("--lists", type=int, default=1000)
    script.add("--ways", type=int, default=5, help="classes of a list")
    args = script.parse(argv)
    for info in script.zoo.infos():
        if info.kind == "generalist" and (outputs := script.zoo.outputs(info)) is not None:
            found = accuracies(outputs, args.ways, args.lists, args.seed)
            all_classes = 100 * float((outputs.logits.argmax(1) == outputs.labels).float().mean())
            config = {
                "zoo": script.zoo.name, "member": info.id, "keep": info.recipe["keep"], "ways": args.ways,
                "lists": args.lists, "base_sha256": script.zoo.base.sha256, "seed": args.seed,
            }  # fmt: skip
            result = {
                "mean": round(float(found.mean()), 2), "sd": round(float(found.std(ddof=1)), 2),
                "p05": round(float(np.quantile(found, 0.05)), 2), "all_classes": round(all_classes, 2),
            }  # fmt: skip
            script.record(config, result)
