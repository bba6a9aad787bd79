"""The thresholds of a zoo's networks, made anew.

    python -m benchmarks thresholds ZOO --pictures DIR [--pictures DIR] --sharp DIR

As `bodies` and `forms` make them; an INT8 form has those of its body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.command import Script, log
from benchmarks.measurements import teach
from benchmarks.measurements.bodies import every_body, labelled_parts, pictures, thresholds
from benchmarks.measurements.forms import LEFT_OUT, classified, describe, opened, scored, surely


def main(argv: Sequence[str]) -> None:
    """Write the thresholds into the zoo's description."""
    script = Script("photographs", __doc__, command="thresholds")
    script.add("zoo", type=Path)
    script.add("--pictures", action="append", type=Path, required=True)
    script.add("--sharp", type=Path, required=True)
    script.add("--small", type=int, default=84, help="pixels of the labelled pictures")
    script.add("--each", type=int, default=20, help="labelled pictures of a class")
    args = script.parse(argv)
    zoo = opened(args.zoo)
    files, labels = pictures(args.pictures, args.each)
    sharp = teach.pictures(args.sharp)[::LEFT_OUT]
    certain, found = surely(zoo, sharp), {}
    for body in [*zoo.bodies, *zoo.forms]:
        if body.arithmetic == "int8":
            found[body.id] = found[body.like]
            continue
        logits = classified(zoo, body, files)[1]
        labelled = scored(zoo, body, logits, np.eye(logits.shape[1])[labels])
        if body.pixels <= args.small:
            sets = [labelled]
        else:
            sets = labelled_parts(body, labelled, files, args.pictures)
            sets.append(scored(zoo, body, classified(zoo, body, sharp)[1], certain))
        found[body.id] = thresholds(sets, zoo.near)
        log.info("%s: %s, before %s", body.id, found[body.id], body.thresholds)
    describe(args.zoo, [replace(b, thresholds=found[b.id]) for b in every_body(args.zoo)])
