"""What a run leaves to read: `report.json` for programs, `report.html` for people."""

from mvp_edge.report.family import render_family
from mvp_edge.report.images import image_uri
from mvp_edge.report.page import Extras, Sample, render_html, write_json

__all__ = ["Extras", "Sample", "image_uri", "render_family", "render_html", "write_json"]
