"""The experiments: one command a question, every result recorded, tables and figures drawn from the records.

    python -m benchmarks list
    python -m benchmarks table1 --data DIR [--tasks 20] [--methods mvp,ifp]
    python -m benchmarks all --data DIR

What has a record is not run again. Images are expected in --data (or $MVP_EDGE_DATA) as cifar100/, caltech101/,
flowers102/, ...
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks import RESNET_ZOO
from benchmarks.records import RESULTS, require_clean
from benchmarks.render import write_pages
from mvp_edge.core.device import resolve_device, use_threads
from mvp_edge.core.errors import ConfigError, MvpEdgeError
from mvp_edge.core.places import user_directory
from mvp_edge.zoo.store import open_zoo

SCRIPTS = {
    "targets": "accuracy of the tool's methods on target tasks",
    "population": "accuracy without images over 1,000 random class lists",
    "names-only": "what names alone give",
    "published": "latency of networks that were published for CIFAR-100",
    "prune-time": "time of the main job",
    "budgets": "are budgets met",
    "edge-latency": "latency, and what bounds it",
    "precision": "INT8 and float16",
    "plain": "what pruning in a chain is for",
    "runtimes": "do other runtimes agree",
    "folders": "time and memory of large folders",
    "phones": "files for phone runtimes, and emulated processors",
    "instructions": "instructions per inference on a phone's processor, and what they tell of its latency",
    "architectures": "which networks of timm can be pruned",
    "mutations": "do the tests notice a broken line",
    "large-zoos": "ranking and listing of many members",
    "launchers": "do engines make the same members, whatever is killed, and at what cost",
    "gpu": "does everything that computes on a GPU agree with the CPU, how fast is it",
    "teach": "crops of photographs with what an ImageNet base says of them",
    "distil": "that base at few pixels, taught by itself at more",
    "bodies": "the photograph zoo of such networks",
    "codebook": "weights of a body in a byte for two or three",
    "forms": "their INT8 forms and small ones",
    "known": "what its `known` needs: unlisted classes in few dimensions, thresholds",
    "photographs": "how often it is right about photographs by names alone",
    "own-photographs": "what photographs of one's own are worth",
    "cut": "what a network cut to a budget is worth with photographs",
    "specialists": "do votes win on photographs",
    "training-speed": "what faster forms of layers gain in a training step",
    "imbalance": "from which imbalance on should classes be drawn equally often",
    "own-bases": "other bases of timm with weights of their own",
}
"""Measurements: scripts with arguments of their own; `all` leaves them out."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run an experiment or a measurement."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given and given[0] in SCRIPTS:
            import_module(f"benchmarks.measurements.{given[0].replace('-', '_')}").main(given[1:])
        else:
            run_experiments(given)
    except MvpEdgeError as e:
        sys.exit(str(e))


def run_experiments(argv: Sequence[str]) -> None:
    """Run the experiment that is named, or all of them.

    Raises:
        MvpEdgeError: the code is not committed, no row is called so, or data or a zoo cannot be read.
    """
    from benchmarks.experiments import EXPERIMENTS
    from benchmarks.suite import Context, carry_out

    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["list", "all", *EXPERIMENTS], metavar="NAME")
    parser.add_argument("--data", type=Path, default=os.environ.get("MVP_EDGE_DATA"), help="directory of image folders")
    parser.add_argument("--zoo", default=RESNET_ZOO, help="the zoo that votes; default: the ResNet-18 of CIFAR-100")
    parser.add_argument("--tasks", type=int, default=20, help="target tasks, at most")
    parser.add_argument("--methods", default="", help="rows or methods, separated by commas; default: all")
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=DIR", help="where a data set or zoo is")
    parser.add_argument("--work", type=Path, default=user_directory() / "benchmarks", help="zoos made on the way")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where records go")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all iterations, to try something out")
    parser.add_argument("--allow-dirty", action="store_true", help="run uncommitted code; tables mark its records")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.name == "list":
        lines = [f"{e.name:<14} {e.source:<16} {e.question}" for e in EXPERIMENTS.values()]
        print("\n".join([*lines, *(f"{name:<14} {'ours':<16} {text}" for name, text in SCRIPTS.items())]))
        return
    if args.scale != 1 and args.out.resolve() == RESULTS.resolve():
        raise ConfigError("runs at another --scale are not results: write them elsewhere with --out DIR")
    require_clean(args.allow_dirty)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_threads(args.threads)
    context = Context(
        open_zoo(args.zoo), None if args.data is None else Path(args.data), args.out, args.work,
        resolve_device(args.device), args.tasks, args.seed, args.scale,
        frozenset(m for m in args.methods.split(",") if m),
        {name: Path(path) for name, path in (pair.split("=", 1) for pair in args.folder)},
    )  # fmt: skip
    chosen = list(EXPERIMENTS.values()) if args.name == "all" else [EXPERIMENTS[args.name]]
    names = dict.fromkeys(n for e in chosen for row in e.rows(context) for n in (row.method, row.name))
    if unknown := sorted(context.methods - names.keys()):
        raise ConfigError(f"no row or method is called {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        for experiment in chosen:
            carry_out(experiment, context)
    finally:
        if args.out.resolve() == RESULTS.resolve():
            write_pages()


if __name__ == "__main__":
    main()
