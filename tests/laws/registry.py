"""What the laws are run over: blocks with their SciPy counterparts, models made of them, engines.

A new block joins by one `Part` and one entry of `CASES`, a new engine by one entry of `ENGINES`.
Rows have nine columns: the constant, two regressors, two responses; a column of zeros and ones and
its complement; a count and its log factorial.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import integrate, linalg, special, stats

from clusterwise.core.parts import AbstractLinearBlock
from clusterwise.core.product import Product
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.rows import BLOCK_ROWS, RowBlock, pack_rows
from clusterwise.covariates.categorical import LevelCounts
from clusterwise.covariates.poisson import RateCounts
from clusterwise.engines.ascent import MeanProjection, ModeProjection, run_source
from clusterwise.engines.chains import Chains
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.gibbs import run_gibbs
from clusterwise.engines.nuts import run_nuts
from clusterwise.engines.optimisers import EM, SVI, VI, MemoizedVI
from clusterwise.engines.samplers import NUTS, Gibbs
from clusterwise.engines.svi import run_memoized, run_stochastic
from clusterwise.posteriors.covariance import (
    AbstractCovariance,
    InverseGamma,
    InverseWishart,
    KnownCovariance,
)
from clusterwise.posteriors.dirichlet import Weights
from clusterwise.posteriors.levels import LevelPosterior, Levels
from clusterwise.posteriors.matrix_normal import LinearParameters, MatrixNormal
from clusterwise.posteriors.rates import RatePosterior, Rates
from clusterwise.posteriors.specification import Gamma
from clusterwise.regression.linear_gaussian import LinearGaussian
from clusterwise.sources.source import Source
from clusterwise.sources.store import AbstractStore, MemoryStore
from clusterwise.weights.mixing import MixingWeights
from clusterwise.weights.specification import (
    Dirichlet,
    DirichletProcess,
    KnownWeights,
    PitmanYor,
)

N_COLUMNS = 9
N_CLUSTERS = 3
N_ROWS = 50
SLOTS = 64


@dataclass(frozen=True)
class Part:
    """One block, its priors, and what SciPy says about it.

    Parameters
    ----------
    block
        The block.
    prior, flat
        A proper prior and one that gives maximum likelihood, for some clusters; None: there is
        none.
    draw
        Random parameters.
    log_density
        (n, k) log density of rows under parameters.
    log_marginal
        Log density of rows given their labels, the parameters integrated out under `prior`.
    """

    block: Any
    prior: Callable[[int], Any]
    flat: Callable[[int], Any] | None
    draw: Callable[[np.random.Generator, int], Any]
    log_density: Callable[[Any, np.ndarray], np.ndarray]
    log_marginal: Callable[[np.ndarray, np.ndarray, int], float]

    def posterior(self, values: np.ndarray, resp: np.ndarray, prior: Any = None) -> Any:
        """Posterior after rows (n, columns) with responsibilities (k, n), summed by NumPy."""
        prior = self.prior(len(resp)) if prior is None else prior
        own = values[:, list(self.block.columns)]
        if isinstance(self.block, AbstractLinearBlock):
            return self.block.posterior(jnp.asarray(resp @ own), prior, prior.moments())
        gram = np.einsum("kn,nc,nd->kcd", resp, own, own)
        return self.block.posterior(
            jnp.asarray(resp.sum(axis=1)), jnp.asarray(gram), prior, prior.moments()
        )

    def scores(self, moments: Any, values: np.ndarray) -> np.ndarray:
        """(k, n) expected log density of rows, from the block's quadratic or linear form."""
        own = values[:, list(self.block.columns)]
        if isinstance(self.block, AbstractLinearBlock):
            return np.asarray(self.block.linear(moments)) @ own.T
        constant, factor = self.block.quadratic(moments)
        whitened = np.einsum("kmc,nc->kmn", np.asarray(factor), own)
        return np.asarray(constant)[:, None] - 0.5 * np.square(whitened).sum(axis=1)


@dataclass(frozen=True)
class Case:
    """A model: a product of parts, the weights first."""

    parts: tuple[Part, ...]

    @property
    def block(self) -> Product:
        return Product(tuple(part.block for part in self.parts), N_COLUMNS)

    @property
    def has_flat(self) -> bool:
        return all(part.flat is not None for part in self.parts)

    def prior(self, k: int = N_CLUSTERS) -> ProductPosterior:
        return ProductPosterior(tuple(part.prior(k) for part in self.parts))

    def flat(self, k: int = N_CLUSTERS) -> ProductPosterior:
        return ProductPosterior(tuple(part.flat(k) for part in self.parts if part.flat))

    def draw(self, rng: np.random.Generator, k: int = N_CLUSTERS) -> ProductParameters:
        return ProductParameters(tuple(part.draw(rng, k) for part in self.parts))

    def log_density(self, parameters: ProductParameters, values: np.ndarray) -> np.ndarray:
        pairs = zip(self.parts, parameters.parts, strict=True)
        return sum(part.log_density(value, values) for part, value in pairs)

    def log_evidence(self, values: np.ndarray, k: int) -> float:
        """Exact log evidence by summing over all labelings."""
        return float(special.logsumexp(self.log_labelings(values, k)[1]))

    def log_labelings(self, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """All labelings of the rows, and the log density of each with the rows."""
        labelings = np.array(list(itertools.product(range(k), repeat=len(values))))
        log_joint = [
            sum(part.log_marginal(values, labels, k) for part in self.parts) for labels in labelings
        ]
        return labelings, np.array(log_joint)


# Weights


def _dirichlet_marginal(concentration: float) -> Callable[..., float]:
    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        alpha = np.full(k, concentration)
        count = np.bincount(labels, minlength=k)
        return float(
            special.gammaln(alpha.sum())
            - special.gammaln(alpha.sum() + count.sum())
            + np.sum(special.gammaln(alpha + count) - special.gammaln(alpha))
        )

    return log_marginal


def _stick_marginal(discount: float, concentration: float | Gamma) -> Callable[..., float]:
    @cache
    def of_counts(count: tuple[int, ...]) -> float:
        k = len(count)
        later = np.array([sum(count[j + 1 :]) for j in range(k - 1)])
        own = np.array(count[:-1])

        def log_given(value: float) -> float:
            second = value + discount * np.arange(1, k)
            gain = special.betaln(1 - discount + own, second + later)
            return float(np.sum(gain - special.betaln(1 - discount, second)))

        if not isinstance(concentration, Gamma):
            return log_given(concentration)
        prior = stats.gamma(concentration.shape, scale=1 / concentration.rate)
        total, _ = integrate.quad(
            lambda value: prior.pdf(value) * np.exp(log_given(value)), 0, np.inf, epsabs=0
        )
        return float(np.log(total))

    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        return of_counts(tuple(int(c) for c in np.bincount(labels, minlength=k)))

    return log_marginal


def _log_weights(parameters: Weights, values: np.ndarray) -> np.ndarray:
    k = parameters.log_weights.shape[0]
    return np.broadcast_to(np.asarray(parameters.log_weights), (len(values), k))


def _dirichlet(concentration: float) -> Part:
    def draw(rng: np.random.Generator, k: int) -> Weights:
        weights = rng.dirichlet(np.full(k, 3.0))
        return Weights(jnp.asarray(np.log(weights)), jnp.asarray(concentration * k))

    return Part(
        MixingWeights(),
        lambda k: Dirichlet(concentration).prior(k, flat=False),
        lambda k: Dirichlet(concentration).prior(k, flat=True),
        draw,
        _log_weights,
        _dirichlet_marginal(concentration),
    )


def _sticks(specification: DirichletProcess | PitmanYor) -> Part:
    concentration = specification.concentration
    discount = getattr(specification, "discount", 0.0)

    def draw(rng: np.random.Generator, k: int) -> Weights:
        weights = rng.dirichlet(np.full(k, 3.0))
        known = not isinstance(concentration, Gamma)
        value = concentration if known else rng.gamma(3.0) / 2
        return Weights(jnp.asarray(np.log(weights)), jnp.asarray(value, float))

    return Part(
        MixingWeights(),
        lambda k: specification.prior(k, flat=False),
        None,
        draw,
        _log_weights,
        _stick_marginal(discount, concentration),
    )


def _known_weights() -> Part:
    """Weights proportional to k + 1, k, ..., 2."""

    def weights(k: int) -> np.ndarray:
        return np.arange(k + 1, 1, -1) / np.arange(k + 1, 1, -1).sum()

    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        return float(np.log(weights(k))[labels].sum())

    return Part(
        MixingWeights(),
        lambda k: KnownWeights(weights(k)).prior(k, flat=False),
        lambda k: KnownWeights(weights(k)).prior(k, flat=True),
        lambda rng, k: Weights(jnp.asarray(np.log(weights(k))), jnp.zeros(())),
        _log_weights,
        log_marginal,
    )


# Linear Gaussian parts


def _row_precision(p: int) -> np.ndarray:
    return np.eye(p) * 0.7 + 0.2


def _prior_mean(p: int, q: int) -> np.ndarray:
    return 0.3 * np.arange(p * q).reshape(p, q) / (p * q) - 0.1


def _known_value(q: int) -> np.ndarray:
    return np.eye(q) * 0.6 + 0.2


def _covariance_prior(form: str, t: int, q: int, flat: bool) -> AbstractCovariance:
    if form == "known":
        return KnownCovariance(jnp.asarray(_known_value(q))[None])
    if form == "full":
        dof = 1e-9 if flat else q + 2.5
        scale = dof * (np.eye(q) * 0.5 + 0.1)
        return InverseWishart(jnp.full(t, dof), jnp.tile(jnp.asarray(scale), (t, 1, 1)))
    shape = 1e-9 if flat else 2.5
    r = q if form == "diag" else 1
    rate = shape * (0.4 + 0.2 * np.arange(r))
    return InverseGamma(jnp.full((t, r), shape), jnp.tile(jnp.asarray(rate), (t, 1)), q)


def _random_covariance(rng: np.random.Generator, form: str, t: int, q: int) -> np.ndarray:
    if form == "known":
        return _known_value(q)[None]
    if form == "full":
        return stats.wishart(q + 3, np.eye(q) / 3).rvs(t, random_state=rng).reshape(t, q, q)
    variances = rng.gamma(3.0, 0.3, size=(t, q if form == "diag" else 1))
    return np.broadcast_to(variances, (t, q))[:, :, None] * np.eye(q)


def _matrix_marginal(
    errors: Sequence[np.ndarray], spreads: Sequence[np.ndarray], dof: float, scale: np.ndarray
) -> float:
    """Log density of matrix-t errors that share one inverse Wishart covariance."""
    n, q = sum(len(error) for error in errors), scale.shape[0]
    scatter = scale + sum(
        error.T @ np.linalg.solve(spread, error)
        for error, spread in zip(errors, spreads, strict=True)
    )
    return float(
        special.multigammaln((dof + n) / 2, q)
        - special.multigammaln(dof / 2, q)
        + dof / 2 * np.linalg.slogdet(scale)[1]
        - (dof + n) / 2 * np.linalg.slogdet(scatter)[1]
        - n * q / 2 * np.log(np.pi)
        - q / 2 * sum(np.linalg.slogdet(spread)[1] for spread in spreads)
    )


def _student(
    errors: Sequence[np.ndarray], spreads: Sequence[np.ndarray], shape: float, rate: float
) -> float:
    """Log density of errors that share one inverse gamma variance."""
    error = np.concatenate(errors)
    if not error.size:
        return 0.0
    spread = linalg.block_diag(*spreads)
    return float(stats.multivariate_t(shape=rate / shape * spread, df=2 * shape).logpdf(error))


def _linear(
    regressors: tuple[int, ...], responses: tuple[int, ...], form: str, *, shared: bool = False
) -> Part:
    p, q = len(regressors), len(responses)
    alone = shared or form == "known"

    def prior(k: int, flat: bool = False) -> MatrixNormal:
        precision = (1e-9 if flat else 1.0) * _row_precision(p)
        return MatrixNormal(
            jnp.tile(jnp.asarray(_prior_mean(p, q)), (k, 1, 1)),
            jnp.tile(jnp.asarray(precision), (k, 1, 1)),
            _covariance_prior(form, 1 if alone else k, q, flat),
        )

    def draw(rng: np.random.Generator, k: int) -> LinearParameters:
        covariance = _random_covariance(rng, form, 1 if alone else k, q)
        return LinearParameters(jnp.asarray(rng.normal(size=(k, p, q))), jnp.asarray(covariance))

    def log_density(parameters: LinearParameters, values: np.ndarray) -> np.ndarray:
        x, y = values[:, list(regressors)], values[:, list(responses)]
        coefficients = np.asarray(parameters.coefficients)
        k = coefficients.shape[0]
        covariance = np.broadcast_to(np.asarray(parameters.covariance), (k, q, q))
        columns = []
        for j in range(k):
            error = y - x @ coefficients[j]
            if q == 1:
                columns.append(stats.norm.logpdf(error[:, 0], scale=np.sqrt(covariance[j, 0, 0])))
            else:
                columns.append(stats.multivariate_normal(cov=covariance[j]).logpdf(error))
        return np.stack([np.atleast_1d(column) for column in columns], axis=1)

    @cache
    def of_partition(data: bytes, labels: tuple[int, ...], k: int) -> float:
        return of_labels(np.frombuffer(data).reshape(-1, N_COLUMNS), np.array(labels), k)

    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        # Clusters are alike: labelings of one partition share a value.
        names = {label: i for i, label in enumerate(dict.fromkeys(labels.tolist()))}
        return of_partition(values.tobytes(), tuple(names[label] for label in labels.tolist()), k)

    def of_labels(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        x, y = values[:, list(regressors)], values[:, list(responses)]
        error = y - x @ _prior_mean(p, q)
        inverse = np.linalg.inv(_row_precision(p))
        errors = [error[labels == j] for j in range(k)]
        spreads = [
            np.eye(int(np.sum(labels == j))) + x[labels == j] @ inverse @ x[labels == j].T
            for j in range(k)
        ]
        if form == "known":
            known = _known_value(q)
            return float(
                sum(
                    stats.multivariate_normal(cov=np.kron(spread, known)).logpdf(e.ravel())
                    for e, spread in zip(errors, spreads, strict=True)
                    if len(e)
                )
            )
        covariance = _covariance_prior(form, 1, q, flat=False)
        groups = [range(k)] if shared else [[j] for j in range(k)]
        total = 0.0
        for group in groups:
            own = [errors[j] for j in group]
            spread = [spreads[j] for j in group]
            if isinstance(covariance, InverseWishart):
                total += _matrix_marginal(
                    own, spread, float(covariance.dof[0]), np.asarray(covariance.scale[0])
                )
                continue
            shape, rate = np.asarray(covariance.shape[0]), np.asarray(covariance.rate[0])
            columns = [[i] for i in range(q)] if form == "diag" else [list(range(q))]
            for i, column in enumerate(columns):
                pairs = [(e[:, c], s) for c in column for e, s in zip(own, spread, strict=True)]
                total += _student([e for e, _ in pairs], [s for _, s in pairs], shape[i], rate[i])
        return total

    return Part(
        LinearGaussian(regressors, responses),
        prior,
        lambda k: prior(k, flat=True),
        draw,
        log_density,
        log_marginal,
    )


# Counts


def _bernoulli(column: int) -> Part:
    """A column of zeros and ones, the next one being its complement."""
    alpha = np.array([1.6, 0.9])

    def log_density(parameters: Levels, values: np.ndarray) -> np.ndarray:
        probability = np.exp(np.asarray(parameters.log_probabilities)[:, 0])
        return stats.bernoulli.logpmf(values[:, [column]], probability)

    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        ones = np.array([values[labels == j, column].sum() for j in range(k)])
        zeros = np.bincount(labels, minlength=k) - ones
        gain = special.betaln(alpha[0] + ones, alpha[1] + zeros)
        return float(np.sum(gain - special.betaln(*alpha)))

    return Part(
        LevelCounts((column, column + 1)),
        lambda k: LevelPosterior(jnp.tile(jnp.asarray(alpha), (k, 1))),
        lambda k: LevelPosterior(jnp.full((k, 2), 1e-9)),
        lambda rng, k: Levels(jnp.asarray(np.log(rng.dirichlet([2.0, 3.0], size=k)))),
        log_density,
        log_marginal,
    )


def _poisson(column: int) -> Part:
    """A count, the next column being its log factorial."""
    shape, rate = 2.5, 1.4

    def log_density(parameters: Rates, values: np.ndarray) -> np.ndarray:
        return stats.poisson.logpmf(values[:, [column]], np.exp(np.asarray(parameters.log_rates)))

    def log_marginal(values: np.ndarray, labels: np.ndarray, k: int) -> float:
        total = 0.0
        for j in range(k):
            count = values[labels == j, column]
            after = shape + count.sum()
            total += special.gammaln(after) - special.gammaln(shape)
            total += shape * np.log(rate) - after * np.log(rate + count.size)
            total -= special.gammaln(count + 1).sum()
        return float(total)

    return Part(
        RateCounts((0, column, column + 1)),
        lambda k: RatePosterior(jnp.full(k, shape), jnp.full(k, rate)),
        lambda k: RatePosterior(jnp.full(k, 1e-9), jnp.full(k, 1e-9)),
        lambda rng, k: Rates(jnp.asarray(np.log(rng.gamma(3.0, 0.7, size=k)))),
        log_density,
        log_marginal,
    )


PARTS: dict[str, Part] = {
    "dirichlet": _dirichlet(1.5),
    "dirichlet process": _sticks(DirichletProcess(Gamma(2.0, 1.0))),
    "dirichlet process, known": _sticks(DirichletProcess(1.7)),
    "pitman-yor": _sticks(PitmanYor(0.3, Gamma(2.0, 1.0))),
    "known weights": _known_weights(),
    "response": _linear((0, 1, 2), (3,), "full"),
    "second response": _linear((0, 1, 2), (4,), "full"),
    "shared sigma": _linear((0, 1), (4,), "full", shared=True),
    "known sigma": _linear((0, 1), (3,), "known"),
    "bivariate response": _linear((0, 1), (3, 4), "full"),
    "full covariates": _linear((0,), (1, 2), "full"),
    "diagonal covariates": _linear((0,), (1, 2), "diag"),
    "spherical covariates": _linear((0,), (1, 2), "spherical"),
    "tied covariates": _linear((0,), (1, 2), "full", shared=True),
    "known covariance": _linear((0,), (1, 2), "known"),
    "bernoulli covariates": _bernoulli(5),
    "poisson covariates": _poisson(7),
}
WEIGHTS = [name for name, part in PARTS.items() if isinstance(part.block, MixingWeights)]
LINEAR = [name for name, part in PARTS.items() if isinstance(part.block, LinearGaussian)]
COUNTED = [name for name in PARTS if name not in (*WEIGHTS, *LINEAR)]


def _case(*names: str) -> Case:
    return Case(tuple(PARTS[name] for name in names))


# Few programs to compile: every part is in some case, not in one of its own.
CASES: dict[str, Case] = {
    "dirichlet": _case("dirichlet", "response"),
    "dirichlet process": _case("dirichlet process", "response"),
    "pitman-yor": _case("pitman-yor", "response"),
    "known": _case("dirichlet process, known", "known sigma", "known covariance"),
    "diagonal": _case("dirichlet", "shared sigma", "diagonal covariates", *COUNTED),
    "spherical": _case("dirichlet", "second response", "spherical covariates", *COUNTED),
    "tied": _case("known weights", "bivariate response", "tied covariates"),
    "joint": _case("dirichlet process", "response", "shared sigma", "full covariates"),
}


# Rows


def random_values(rng: np.random.Generator, n: int = N_ROWS, k: int = N_CLUSTERS) -> np.ndarray:
    """Rows (n, columns) from clusters that overlap."""
    label = rng.integers(k, size=n)
    center = 2.0 * (label - (k - 1) / 2)
    x = rng.normal(size=(n, 2)) + 0.5 * center[:, None] * np.array([1.0, -1.0])
    noise = 0.5 * rng.normal(size=(n, 2))
    y = center[:, None] + x * np.stack([center, 1 - center], axis=1) + noise
    return with_counts(np.column_stack([np.ones(n), x, y]))


def with_counts(values: np.ndarray) -> np.ndarray:
    """Rows with their columns of zeros and ones and of counts, from those before."""
    ones = (values[:, 1] > values[:, 4]).astype(float)
    count = np.floor(np.minimum(np.abs(values[:, 3]), 9.0))
    return np.column_stack([values, ones, 1 - ones, count, special.gammaln(count + 1)])


def members(labels: np.ndarray, k: int = N_CLUSTERS) -> np.ndarray:
    """Responsibilities (k, n) of rows whose labels are known."""
    return (labels == np.arange(k)[:, None]).astype(float)


def pack(values: np.ndarray, weight: np.ndarray | None = None) -> RowBlock:
    """A few rows as two chunks of always the same shape, so that programs are compiled once."""
    weight = np.ones(len(values)) if weight is None else weight
    flat = np.zeros((SLOTS, values.shape[1] + 1))
    flat[: len(values)] = np.column_stack([values, weight])
    packed = flat.reshape(2, SLOTS // 2, -1).transpose(0, 2, 1)
    return RowBlock.from_packed(np.ascontiguousarray(packed))


def make_source(
    values: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    store: AbstractStore | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Source:
    """Rows as a source, in blocks."""
    weight = np.ones(len(values)) if weight is None else weight
    store = MemoryStore() if store is None else store
    for first in range(0, len(values), block_rows):
        part = slice(first, first + block_rows)
        few = min(len(values), block_rows) <= SLOTS
        rows = pack(values[part], weight[part]).packed if few else None
        store.append(pack_rows(values[part], weight[part]) if rows is None else rows)
    return Source(store, len(values), float(weight.sum()))


# Engines


def _quiet(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class EngineCase:
    """An engine: as a user configures it, and as a run from a starting posterior.

    `run(block, prior, source, start, key)` gives an `AscentResult`, or `Draws` of a sampler.
    """

    engine: AbstractEngine
    run: Callable[..., Any]
    monotone: bool = False
    full_batch: bool = False
    """Whether each step sees all rows, so that their order and copies change nothing."""
    sampler: bool = False


def _em(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    return run_source(
        ModeProjection(), block, prior, source, start, tol=1e-12, max_iter=300, progress=_quiet
    )


def _vi(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    return run_source(
        MeanProjection(), block, prior, source, start, tol=1e-12, max_iter=300, progress=_quiet
    )


def _svi(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    return run_stochastic(
        block, prior, source, start, batch_size=256, max_epochs=30, rate=(1.0, 0.8), tol=1e-6,
        key=key, progress=_quiet,
    )  # fmt: skip


def _memoized(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    return run_memoized(block, prior, source, start, max_epochs=25, tol=1e-12, progress=_quiet)


def _gibbs(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    chains = Chains(50, 1000, 4, key, _quiet)
    return run_gibbs(block, prior, source, start, start.moments(), chains)


def _nuts(block: Any, prior: Any, source: Source, start: Any, key: Any) -> Any:
    return run_nuts(
        block, prior, source, start, start.moments(), Chains(500, 1000, 4, key, _quiet),
        target_accept=0.8, max_tree_depth=10,
    )  # fmt: skip


ENGINES: dict[str, EngineCase] = {
    "em": EngineCase(EM(n_init=2), _em, monotone=True, full_batch=True),
    "vi": EngineCase(VI(n_init=2), _vi, monotone=True, full_batch=True),
    "svi": EngineCase(SVI(n_init=2, batch_size=64), _svi),
    "memoized": EngineCase(MemoizedVI(n_init=2), _memoized, monotone=True),
    "gibbs": EngineCase(
        Gibbs(n_init=2, num_warmup=20, num_samples=80, num_chains=2), _gibbs, sampler=True
    ),
    "nuts": EngineCase(
        NUTS(n_init=2, num_warmup=20, num_samples=80, num_chains=2), _nuts, sampler=True
    ),
}
