"""Prediction of one response: for every row a mixture over the clusters of all draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import betaln, ndtr, ndtri, stdtr, stdtrit

from clusterwise.inference.mixture import log_sum_exp

_STEPS = 100
_LEAST = np.finfo(float).tiny


class AbstractMixture(ABC):
    """The distribution of a response in each row, on the data's scale."""

    log_weights: np.ndarray

    @abstractmethod
    def mean(self) -> np.ndarray:
        """Expectation (n,)."""

    @abstractmethod
    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density, or probability, (n, g) at values y (n, g)."""

    @abstractmethod
    def tails(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n,) of at most y (n,), and of more than y."""

    @abstractmethod
    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Quantiles (n, q)."""

    @abstractmethod
    def sample_at(self, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw (n,), of the clusters at which their probabilities reach uniform (n,)."""

    @property
    @abstractmethod
    def discrete(self) -> bool:
        """Whether the response has probabilities, not a density."""

    @abstractmethod
    def component_means(self) -> np.ndarray:
        """Expectation (n, m) under every cluster of every draw; of levels (n, m, levels)."""

    @abstractmethod
    def component(self, number: int, n_components: int) -> AbstractMixture:
        """The distribution under one cluster, draws counting alike.

        Clusters of one draw lie side by side.
        """

    @cached_property
    def _cumulative(self) -> np.ndarray:
        cumulative = np.cumsum(np.exp(self.log_weights), axis=1)
        return cumulative / cumulative[:, -1:]

    def sample(self, shared: np.ndarray, n_components: int, rng: np.random.Generator) -> np.ndarray:
        """Samples (size, n) whose rows have one draw of the parameters, where draws count alike.

        Each sample's uniform number of `shared` (size,) says at which share of the draws it is;
        where draws count for more in some rows than in others, rows have draws near one another.
        """
        n, width = self._cumulative.shape
        # Where the draws of each row begin and end.
        ends = self._cumulative[:, n_components - 1 :: n_components]
        edges = np.concatenate([np.zeros((n, 1)), ends], axis=1)
        rows, last, found = np.arange(n), width // n_components - 1, []
        for at in shared:
            draw = np.minimum((ends < at).sum(axis=1), last)
            low, high = edges[rows, draw], edges[rows, draw + 1]
            found.append(self.sample_at(low + (high - low) * rng.random(n), rng))
        return np.stack(found)

    def chosen(self, uniform: np.ndarray) -> np.ndarray:
        """Clusters (n,) at which their probabilities reach uniform (n,)."""
        return (self._cumulative < uniform[:, None]).sum(axis=1)

    def normal_scores(self, y: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Quantile residuals (n,) of y (n,), standard normal if this is how y came about.

        Those of a discrete response are made continuous by uniform numbers (n,) (Dunn and Smyth
        1996, Journal of Computational and Graphical Statistics 5).
        """
        below, above = self.tails(y)
        if self.discrete:
            less, more = self.tails(y - 1)
            below, above = less + uniform * (below - less), above + (1 - uniform) * (more - above)
        # The smaller tail keeps its digits; nothing lies beyond the smallest number.
        lower, upper = (ndtri(np.clip(tail, _LEAST, 0.5)) for tail in (below, above))
        return np.where(below < above, lower, -upper)


@dataclass(frozen=True)
class StudentMixture(AbstractMixture):
    """For each row a mixture of Student t's in data units.

    `log_weights` and `means` are (n, m), `sds` (n, m) or (m,), `dof` (m,), with m the clusters of
    all draws. All degrees of freedom are finite, or all infinite: then they are normals.
    """

    log_weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray
    dof: np.ndarray

    @property
    def _normal(self) -> bool:
        return bool(np.all(np.isinf(self.dof)))

    def mean(self) -> np.ndarray:
        """Expectation (n,)."""
        return (np.exp(self.log_weights) * self.means).sum(axis=1)

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density (n, g) at values y (n, g)."""
        sds = np.broadcast_to(self.sds, self.means.shape)[:, None, :]
        z = (y[:, :, None] - self.means[:, None, :]) / sds
        return log_sum_exp(self.log_weights[:, None, :] + self._log_density(z) - np.log(sds))

    def _log_density(self, z: np.ndarray) -> np.ndarray:
        if self._normal:
            return -0.5 * np.square(z) - 0.5 * np.log(2 * np.pi)
        dof = self.dof
        constant = -betaln(dof / 2, 0.5) - 0.5 * np.log(dof)
        return constant - (dof + 1) / 2 * np.log1p(np.square(z) / dof)

    def tails(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n,) of at most y, and of more."""
        z = (y[:, None] - self.means) / self.sds
        weights, below = np.exp(self.log_weights), self._below
        return (weights * below(z)).sum(axis=1), (weights * below(-z)).sum(axis=1)

    def _below(self, z: np.ndarray) -> np.ndarray:
        return ndtr(z) if self._normal else stdtr(self.dof, z)

    @property
    def discrete(self) -> bool:
        """False."""
        return False

    def component_means(self) -> np.ndarray:
        """Expectation (n, m) under every cluster of every draw."""
        return self.means

    def component(self, number: int, n_components: int) -> StudentMixture:
        """The distribution under one cluster."""
        own = slice(number, None, n_components)
        means = self.means[:, own]
        log_weights = np.full(means.shape, -np.log(means.shape[1]))
        return StudentMixture(log_weights, means, self.sds[..., own], self.dof[own])

    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Quantiles (n, q) by bisection with Newton steps."""
        weights = np.exp(self.log_weights)
        sds = np.broadcast_to(self.sds, self.means.shape)
        found = [self._quantile(weights, sds, float(level)) for level in q]
        return np.stack(found, axis=1)

    def _quantile(self, weights: np.ndarray, sds: np.ndarray, level: float) -> np.ndarray:
        # A mixture's quantile lies between those of its components.
        standard = ndtri(level) if self._normal else stdtrit(self.dof, level)
        own = self.means + sds * standard
        low, high = own.min(axis=1), own.max(axis=1)
        y = np.clip((weights * own).sum(axis=1), low, high)
        at = np.arange(len(y))
        means = self.means
        for _ in range(_STEPS):
            z = (y[at, None] - means) / sds
            excess = (weights * self._below(z)).sum(axis=1) - level
            slope = (weights * np.exp(self._log_density(z)) / sds).sum(axis=1)
            low = np.where(excess < 0, y[at], low)
            high = np.where(excess < 0, high, y[at])
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = y[at] - excess / slope
            inside = (newton > low) & (newton < high)
            new = np.where(inside, newton, low + (high - low) / 2)
            step = np.abs(new - y[at])
            y[at] = new
            open_ = step > 1e-12 * (1e-300 + np.abs(high - low) + np.abs(new))
            if not open_.any():
                break
            at, low, high = at[open_], low[open_], high[open_]
            weights, means, sds = weights[open_], means[open_], sds[open_]
        return y

    def sample_at(self, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw (n,)."""
        n, chosen = len(uniform), self.chosen(uniform)
        noise = rng.normal(size=n) if self._normal else rng.standard_t(self.dof[chosen])
        sds = np.broadcast_to(self.sds, self.means.shape)
        return self.means[np.arange(n), chosen] + sds[np.arange(n), chosen] * noise


@dataclass(frozen=True)
class FamilyMixture(AbstractMixture):
    """For each row a mixture of a family's distributions.

    `log_weights` are (n, m), with m the clusters of all draws; `distribution` is SciPy's, its
    parameters (n, m), of the response less `shift` over `scale`.
    """

    log_weights: np.ndarray
    distribution: Any
    shift: float = 0.0
    scale: float = 1.0

    @property
    def discrete(self) -> bool:
        """Whether the family has probabilities."""
        return hasattr(self.distribution, "pmf")

    def mean(self) -> np.ndarray:
        """Expectation (n,); of levels the probability of each, (n, levels)."""
        means = np.einsum("nm,nm...->n...", np.exp(self.log_weights), self.distribution.mean())
        return means * self.scale + self.shift

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Log density, or probability, (n, g) at values y (n, g)."""
        log_prob = self.distribution.logpmf if self.discrete else self.distribution.logpdf
        standard = (y - self.shift) / self.scale
        found = [log_sum_exp(self.log_weights + log_prob(z[:, None])) for z in standard.T]
        return np.stack(found, axis=1) - np.log(self.scale)

    def tails(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n,) of at most y, and of more."""
        weights, z = np.exp(self.log_weights), ((y - self.shift) / self.scale)[:, None]
        below = self.distribution.cdf(z)
        above = 1 - below if self.discrete else self.distribution.sf(z)
        return (weights * below).sum(axis=1), (weights * above).sum(axis=1)

    def component_means(self) -> np.ndarray:
        """Expectation (n, m) under every cluster of every draw; of levels (n, m, levels)."""
        return self.distribution.mean() * self.scale + self.shift

    def component(self, number: int, n_components: int) -> FamilyMixture:
        """The distribution under one cluster."""
        m = self.log_weights.shape[1]
        own = np.where(np.arange(m) % n_components == number, np.log(n_components / m), -np.inf)
        return replace(self, log_weights=np.broadcast_to(own, self.log_weights.shape))

    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Quantiles (n, q) by bisection; of counts, the least value that reaches the level."""
        weights = np.exp(self.log_weights)
        found = []
        for level in q:
            own = self.distribution.ppf(level)
            # A mixture's quantile lies between those of its components.
            low, high = own.min(axis=1), own.max(axis=1)
            for _ in range(_STEPS):
                middle = np.floor((low + high) / 2) if self.discrete else (low + high) / 2
                below = (weights * self.distribution.cdf(middle[:, None])).sum(axis=1)
                # Rounding must not push a level that is met exactly to the next count.
                reached = below >= level - 1e-12
                high = np.where(reached, middle, high)
                low = np.where(reached, low, middle + 1 if self.discrete else middle)
                if np.all(high - low <= (0 if self.discrete else 1e-12 * (1 + np.abs(high)))):
                    break
            found.append(high)
        return np.stack(found, axis=1) * self.scale + self.shift

    def sample_at(self, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw (n,)."""
        drawn = self.distribution.rvs(size=self.log_weights.shape, random_state=rng)
        own = drawn[np.arange(len(uniform)), self.chosen(uniform)]
        return own * self.scale + self.shift
