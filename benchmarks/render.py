"""Write the result tables of the README and of the pages in docs/ from the records, or check that they agree.

python -m benchmarks.render [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import records, rooms
from benchmarks.measurements import ahnp_scores, folded_norms, runtimes
from benchmarks.tables import accuracy, device, zoo
from benchmarks.tables.experiments import tables

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

TABLES: dict[str, Callable[[], str]] = {
    "targets": accuracy.targets,
    "summary": accuracy.summary,
    "images": accuracy.images,
    "targets-unseen": accuracy.unseen,
    "targets-held-out": accuracy.teachers,
    "packing": zoo.packing,
    "prune-time": device.prune_time,
    "prune-output": device.prune_output,
    "zoo-speed": zoo.zoo_speed,
    "edge-latency": device.edge_latency,
    "precision": device.precision,
    "budgets": device.budgets,
    "alignment": device.alignment,
    "runtimes": runtimes.table,
    "folded-norms": folded_norms.sentence,
    ahnp_scores.QUESTION: ahnp_scores.table,
    "rooms": rooms.table,
    **tables(),
}

DERIVED = ("summary", "images", "prune-output", *tables())  # tables that look for their records themselves


def filled(name: str) -> str:
    """Return a table, or say that there is nothing to show yet."""
    return TABLES[name]() if name in DERIVED or records.read(name) else "Not measured yet."


def rendered(text: str) -> str:
    """Return a page with every `<!-- table NAME -->` block filled in anew."""
    for name in TABLES:
        block = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = block.sub(lambda m, name=name: f"{m[1]}{filled(name)}\n{m[2]}", text)
    return text


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
