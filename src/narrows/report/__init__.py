"""What a run says to a person: the HTML report, the comparison of runs, and the figures."""

from narrows.report.figures import frontier_figure, summary_figure
from narrows.report.html import compare_report, render_measurement, render_report

__all__ = ["compare_report", "frontier_figure", "render_measurement", "render_report", "summary_figure"]
