"""Plots of fits, drawn with matplotlib: `fit.plot.clusters(data)` and others.

matplotlib is imported by the first plot, and its global state is left alone.
"""

from __future__ import annotations

from clusterwise.plots.accessor import FitPlots
from clusterwise.plots.canvas import figure_of, new_axes

__all__ = ["FitPlots", "figure_of", "new_axes"]
