"""The typed report of a run: `report.json` for programs, `report.html` for people."""

from mvp_edge.report.family import render_family
from mvp_edge.report.page import Extras, Sample, image_uri, render_html
from mvp_edge.report.record import FamilyReport, Report, json_schema, write_json

__all__ = [
    "Extras",
    "FamilyReport",
    "Report",
    "Sample",
    "image_uri",
    "json_schema",
    "render_family",
    "render_html",
    "write_json",
]
