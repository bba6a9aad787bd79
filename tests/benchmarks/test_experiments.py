"""Every experiment runs, at a hundredth of its size, on a small random network."""

from dataclasses import replace

import pytest

from benchmarks.__main__ import carry_out
from benchmarks.registry import experiments
from benchmarks.suite.experiment import Context
from benchmarks.suite.summary import REQUIRED


@pytest.mark.parametrize("name", list(experiments()))
def test_every_row_has_a_result_or_a_reason(name: str, context: Context) -> None:
    context = replace(context, tasks=1)
    experiment = experiments()[name]
    rows = experiment.rows(context)
    assert len({r.name for r in rows}) == len(rows)
    carry_out(experiment, context)
    lines = context.store.lines(name)
    assert [line["row"] for line in lines] == [r.name for r in rows]
    for line, row in zip(lines, rows, strict=True):
        assert set(REQUIRED) <= line.keys()
        skipped = [t for t in context.store.trials(name) if t["row"] == row.name and t["status"] == "skipped"]
        if row.missing or skipped:
            reason = row.missing or skipped[-1]["reason"]
            assert (line["status"], line["reason"]) == ("not-run", reason)
        else:
            assert line["status"] == "ok", (line["row"], line["reason"])
            assert line["n_tasks"] >= 1
