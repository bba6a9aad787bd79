"""Every experiment runs, at a hundredth of its size, on a small random network."""

from dataclasses import replace

import pytest

from benchmarks.experiments import EXPERIMENTS
from benchmarks.records import read_lines
from benchmarks.suite import Context, carry_out

QUICK = ("unseen", "zoos")
"""Experiments that every run of the tests tries; with the others it would take half a minute longer."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS]
)
def test_every_row_has_a_trial_or_a_reason(name: str, context: Context) -> None:
    context = replace(context, tasks=1)
    rows = EXPERIMENTS[name].rows(context)
    assert len({r.name for r in rows}) == len(rows)
    reasons = carry_out(EXPERIMENTS[name], context)
    assert [line["row"] for line in read_lines(context.out / f"{name}.jsonl")] == [r.name for r in rows]
    tried = {t["row"]: t for t in context.trials(name)}
    for row in rows:
        if row.trials:
            assert row.name not in tried
        else:
            assert (row.name in tried) != (row.name in reasons), row.name
            assert reasons.get(row.name) or tried[row.name]["status"] == "ok" or tried[row.name]["reason"]
