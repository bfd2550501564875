"""Reports: the result in a sentence, figures, and one HTML page that opens offline."""

from __future__ import annotations

from critwin.reports.compute import collect
from critwin.reports.data import FeatureData, LabelData, ReportData, Validity
from critwin.reports.gallery import Gallery, build_gallery
from critwin.reports.headline import Headline, headline, summarize
from critwin.reports.order import midpoint_gaps
from critwin.reports.page import MAX_BYTES, build_report
from critwin.reports.report import report_data, write_report

__all__ = [
    "MAX_BYTES",
    "FeatureData",
    "Gallery",
    "Headline",
    "LabelData",
    "ReportData",
    "Validity",
    "build_gallery",
    "build_report",
    "collect",
    "headline",
    "midpoint_gaps",
    "report_data",
    "summarize",
    "write_report",
]
