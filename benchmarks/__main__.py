"""The experiments: one command a question, every result recorded, tables and figures drawn from the records.

    python -m benchmarks list
    python -m benchmarks table1 [--tasks 20] [--methods mvp,ifp] [--budget-minutes 30]
    python -m benchmarks all --budget-minutes 120

A run goes on where it was stopped, and several processes may share one: each takes the trials that nobody has. Images
are expected in --data (or $MVP_EDGE_DATA) as cifar100/, caltech101/, flowers102/, ...; sets that torchvision knows are
downloaded otherwise.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.records import RESULTS
from benchmarks.registry import SCRIPTS, experiments
from benchmarks.render import write_pages
from benchmarks.suite.experiment import Clock, Context, Experiment
from benchmarks.suite.store import Store
from benchmarks.suite.summary import summarise
from mvp_edge.core.device import resolve_device, use_threads
from mvp_edge.core.errors import ConfigError, MvpEdgeError
from mvp_edge.core.places import user_directory
from mvp_edge.zoo.store import open_zoo

log = logging.getLogger("benchmarks")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    given = list(sys.argv[1:] if argv is None else argv)
    known = experiments()
    if given and given[0] in SCRIPTS:
        sys.argv = [f"python -m benchmarks {given[0]}", *given[1:]]
        import_module(f"benchmarks.measurements.{given[0].replace('-', '_')}").main()
        return
    args = _parser(known).parse_args(given)
    if args.name == "list":
        print(listing(known))
        return
    records = args.out.resolve() == RESULTS.resolve()
    if args.scale != 1 and records:
        sys.exit("results of another --scale are no results: write them elsewhere with --out DIR")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_threads(args.threads)
    try:
        context = _context(args)
        chosen = list(known.values()) if args.name == "all" else [known[args.name]]
        check_methods(chosen, context)
        if args.name == "all":
            carry_out_all(chosen, context)
        else:
            carry_out(known[args.name], context)
    except MvpEdgeError as e:
        sys.exit(str(e))
    finally:
        if records:
            write_pages()


def check_methods(chosen: Sequence[Experiment], context: Context) -> None:
    """Refuse the names of rows and methods that no experiment has.

    Raises:
        ConfigError: there is such a name.
    """
    if context.methods:
        rows = [row for experiment in chosen for row in experiment.rows(context)]
        names = dict.fromkeys(name for row in rows for name in (row.method, row.name))
        if unknown := sorted(context.methods - names.keys()):
            raise ConfigError(f"no row or method is called {', '.join(unknown)}; there are {', '.join(names)}")


def carry_out_all(chosen: Sequence[Experiment], context: Context) -> None:
    """Run all experiments: each gets its part of the time, and what one does not use goes to those after it.

    One that cannot go on does not keep the others from running. A second round spends what is left, since rows that
    were too long for their part may fit now.
    """
    for share_out in (True, False) if context.clock.is_limited else (False,):
        for number, experiment in enumerate(chosen):
            left = len(chosen) - number
            try:
                carry_out(experiment, replace(context, clock=context.clock.part(1 / left if share_out else 1)))
            except MvpEdgeError as e:
                log.error("%s: %s", experiment.name, e)


def carry_out(experiment: Experiment, context: Context) -> None:
    """Run an experiment as far as the clock allows, and write its table and figure, also when it is interrupted."""
    rows = experiment.rows(context)
    try:
        experiment.run(context, rows)
    finally:
        trials = context.store.trials(experiment.name)
        lines = summarise(experiment.name, rows, trials, context.zoo.base.name)
        context.store.write(experiment.name, lines)
        if experiment.plot is not None and any(line["status"] == "ok" for line in lines):
            experiment.plot(lines, trials, context.store.figure(experiment.name))
    ran = sum(line["status"] == "ok" for line in lines)
    log.info("%s: %d of %d rows have results", experiment.name, ran, len(lines))


def listing(known: dict[str, Experiment]) -> str:
    """Return all that can be run, with what it answers."""
    lines = [f"{e.name:<22} {e.source:<16} {e.minutes:>5.0f} min  {e.question}" for e in known.values()]
    return "\n".join([*lines, *(f"{name:<22} {'ours':<16} {'':>9}  {text}" for name, text in SCRIPTS.items())])


def _parser(known: dict[str, Experiment]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["list", "all", *known], metavar="NAME")
    parser.add_argument("--data", type=Path, default=os.environ.get("MVP_EDGE_DATA"), help="directory of image folders")
    parser.add_argument("--zoo", help="who votes; the bundled zoo if not given")
    parser.add_argument("--tasks", type=int, default=20, help="target tasks, at most")
    parser.add_argument("--methods", default="", help="rows or methods, separated by commas; all if not given")
    parser.add_argument("--budget-minutes", type=float, help="start nothing that would not be done by then")
    parser.add_argument("--folder", action="append", default=[], metavar="SET=DIR", help="where one data set lies")
    parser.add_argument("--work", type=Path, default=user_directory() / "benchmarks", help="zoos made on the way")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where records go")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all iterations, to try something out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _context(args: argparse.Namespace) -> Context:
    folders = dict(pair.split("=", 1) for pair in args.folder)
    work = args.work if args.scale == 1 else args.work / f"scale-{args.scale:g}"
    return Context(
        open_zoo(args.zoo), None if args.data is None else Path(args.data), Store(args.out), work,
        Clock(args.budget_minutes), resolve_device(args.device), args.tasks, args.seed, args.scale,
        frozenset(m for m in args.methods.split(",") if m), {k: Path(v) for k, v in folders.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
