"""Runs of an engine over a case, from labels."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from clusterwise.core.rows import RowBlock
from clusterwise.engines.step import score_program, start_program
from clusterwise.sources.source import Source
from tests.laws.registry import ENGINES, N_CLUSTERS, SLOTS, Case


def random_start(
    case: Case, prior: Any, rows: RowBlock, rng: np.random.Generator, k: int = N_CLUSTERS
) -> Any:
    """Posterior given random labels."""
    return start_program(case.block, prior, rows, rng.integers(k, size=SLOTS))


def run_from(
    case: Case, engine: str, prior: Any, source: Source, labels: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Result of a run from labels, and the scores (slots, k) of all rows at its end."""
    rows = source.block(0)
    padded = np.pad(labels, (0, SLOTS - len(labels)))
    begin = start_program(case.block, prior, rows, padded)
    result = ENGINES[engine].run(case.block, prior, source, begin, jax.random.key(0))
    score = np.asarray(score_program(case.block, result.posterior.moments(), rows))
    return result, np.swapaxes(score, 1, 2).reshape(SLOTS, -1)
