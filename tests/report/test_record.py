"""`report.json` is what its type says, and the JSON Schema says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mvp_edge.report import FamilyReport, Report, json_schema, write_json
from mvp_edge.report.record import SCHEMA, Record
from tests.report.example import example_report

DOCS = Path(__file__).parents[2] / "docs" / SCHEMA.name
RENEW = (
    "python -c 'from mvp_edge.report.record import *; SCHEMA.write_text(json_schema())' && "
    "cp mvp_edge/report/schema.json docs/"
)


def family() -> dict[str, Any]:
    report = example_report()
    model = {
        "directory": "1ms", "budget": {"latency_ms": {"limit": 1.0, "achieved": 0.9}}, "top1": None, "n": 0,
        "latency_ms": 0.9, "size_kib": 400.5, "macs": 7_000_000, "params": 100_000, "keep": 0.1, "warnings": [],
        "source": None, "front": ["size_kib"],
    }  # fmt: skip
    shared = ("task", "base", "out", "files", "seed", "seconds", "environment", "warnings")
    return {key: report[key] for key in shared} | {"models": [model]}


def test_the_schema_is_up_to_date() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), RENEW
    assert DOCS.read_text(encoding="utf-8") == json_schema(), RENEW


def test_reports_follow_the_schema() -> None:
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    for value, kind in ((example_report(), Report), (family(), FamilyReport)):
        jsonschema.validate(value, schema)
        assert json.loads(json.dumps(kind.from_json(value).to_json())) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [{"macs": "many"}, {"macs": None}, {"unheard": 1}, {"accuracy": {}}, {"origin": "magic"}, {"input": "bgr"}],
)
def test_what_is_no_report_is_refused(change: dict[str, object]) -> None:
    value = example_report() | change
    with pytest.raises(ValueError, match=next(iter(change))):
        Report.from_json(value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, json.loads(json_schema()))


def test_a_report_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Report.from_json(example_report()).seed = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_json_round_trip(tmp_path: Path) -> None:
    report = Report.from_json(example_report() | {"data": "Ærø"})
    write_json(report, tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert Report.from_json(json.loads(text)) == report
    assert '\n  "base"' in text
    assert "Ærø" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_number(tmp_path: Path, value: float) -> None:
    report = msgspec.structs.replace(Report.from_json(example_report()), parity_max_abs_diff=value)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(report, tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_no_part_of_a_report_can_be_changed() -> None:
    def below(kind: type[Record]) -> list[type[Record]]:
        return [kind, *(k for child in kind.__subclasses__() for k in below(child))]

    kinds = below(Record)
    assert len(kinds) > 20
    assert [k.__name__ for k in kinds if not k.__struct_config__.frozen] == []
