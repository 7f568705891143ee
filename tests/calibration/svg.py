"""Rank plots as small SVG files, the same bytes for the same ranks."""

from __future__ import annotations

import numpy as np

from tests.calibration.sbc import Ranks
from tests.calibration.uniformity import POINTS, band_level, ecdf_counts, pointwise_limits

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 128, 72, 150, 24, 8
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8f5aa8", "#b8860b", "#4a4e69")
_REACH = 1.6  # half the height of a panel, in half-widths of the band


def rank_plot(found: dict[tuple[str, str], Ranks], rows: list[str], columns: list[str]) -> str:
    """Panels of rows by columns: empirical distribution functions minus the uniform one."""
    first = next(iter(found.values()))
    n, points = len(next(iter(first.ranks.values()))), min(POINTS, first.n_draws + 1)
    width = _LEFT + len(columns) * (_WIDTH + _GAP)
    height = _TOP + len(rows) * (_HEIGHT + _GAP)
    low, high = (limit / n for limit in pointwise_limits(n, band_level(n, points=points), points))
    share = np.arange(1, points) / points
    reach = _REACH * float((high - share).max())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for j, column in enumerate(columns):
        parts.append(f'<text x="{_LEFT + j * (_WIDTH + _GAP)}" y="16">{column}</text>')
    for i, row in enumerate(rows):
        top = _TOP + i * (_HEIGHT + _GAP)
        parts.append(f'<text x="4" y="{top + _HEIGHT // 2}">{row}</text>')
        for j, column in enumerate(columns):
            left, panel = _LEFT + j * (_WIDTH + _GAP), found.get((row, column))
            if panel is None:
                continue
            parts.append(f'<g transform="translate({left},{top})" fill="none">')
            outline = np.concatenate([low - share, (high - share)[::-1]])
            places = np.concatenate([share, share[::-1]])
            parts.append(f'<path d="{_path(places, outline, reach)}z" fill="#ddd"/>')
            for number, ranks in enumerate(panel.ranks.values()):
                counts = ecdf_counts(ranks, panel.n_draws, points)
                line = _path(share, counts / n - share, reach)
                parts.append(f'<path d="{line}" stroke="{_COLOURS[number % len(_COLOURS)]}"/>')
            parts.append(f'<rect width="{_WIDTH}" height="{_HEIGHT}" stroke="#999"/></g>')
    return "\n".join([*parts, "</svg>\n"])


def _path(share: np.ndarray, difference: np.ndarray, reach: float) -> str:
    x = np.rint(share * _WIDTH).astype(int)
    y = np.rint(_HEIGHT / 2 * (1 - difference / reach)).clip(0, _HEIGHT).astype(int)
    return "M" + "L".join(f"{a} {b}" for a, b in zip(x, y, strict=True))
