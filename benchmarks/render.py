"""Write the tables of the pages from the records, or check that they agree.

python -m benchmarks.render [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial

from benchmarks import rooms
from benchmarks.experiments import EXPERIMENTS
from benchmarks.records import ROOT, dirty_note
from benchmarks.tables import accuracy, architectures, device, papers, phones, photographs, settled, tests, zoos

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
"""Pages whose `<!-- table NAME -->` blocks are filled in."""
BLOCK = re.compile(r"(<!-- table (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {
    "summary": accuracy.summary,
    "targets": accuracy.targets,
    "images": accuracy.images,
    "seeds": accuracy.seeds,
    "population": accuracy.population,
    "published": accuracy.published,
    "targets-unseen": accuracy.unseen,
    "imbalance": accuracy.imbalance,
    "plain": accuracy.plain,
    "targets-held-out": accuracy.teachers,
    "leep": settled.leep,
    "packing": settled.packing,
    "prune-time": device.prune_time,
    "before-after": device.before_after,
    "folders": device.folders,
    "prune-output": device.prune_output,
    "training-speed": device.training_speed,
    "zoo-speed": settled.zoo_speed,
    "large-zoos": zoos.large_zoos,
    "launchers": zoos.launchers,
    "edge-latency": device.edge_latency,
    "precision": device.precision,
    "budgets": device.budgets,
    "alignment": settled.alignment,
    "runtimes": phones.runtimes,
    "phones": phones.phones,
    "instructions": phones.instructions,
    "folded-norms": settled.folded_norms,
    "ahnp-scores-held-out": settled.ahnp_scores,
    "photographs": photographs.by_names,
    "forms": photographs.forms,
    "worst-layers": photographs.worst_layers,
    "float-layers": settled.float_layers,
    "none-of-these": photographs.none_of_these,
    "known-scores": photographs.known_scores,
    "own-photographs": photographs.own_photographs,
    "teachers-of-photographs": photographs.teachers,
    "cut-to-budgets": photographs.cut_to_budgets,
    "specialists": photographs.specialists,
    "votes-on-photographs": photographs.votes_on_photographs,
    "own-none-of-these": photographs.own_none_of_these,
    "own-bases": photographs.own_bases,
    "rooms": rooms.table,
    "architectures": architectures.summary,
    "architectures-all": architectures.every,
    "mutations": tests.mutations,
    **{name: partial(papers.table, name) for name in EXPERIMENTS},
}


def rendered(text: str) -> str:
    """Return a page with every `<!-- table NAME -->` block filled in anew.

    Raises:
        KeyError: there is no such table.
    """

    def filled(match: re.Match[str]) -> str:
        table = TABLES[match["name"]]()
        return f"{match[1]}{table}{dirty_note(table)}\n{match[3]}"

    return BLOCK.sub(filled, text)


def write_pages() -> None:
    """Fill in the tables of all pages."""
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        return write_pages()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if rendered(text) != text:
            sys.exit(f"{page} does not agree with the records; run: python -m benchmarks.render")
    return None


if __name__ == "__main__":
    main()
