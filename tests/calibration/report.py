"""`docs/calibration.md` and its rank plots, from what a calibration found."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from tests.calibration import geweke, library, registry
from tests.calibration.registry import (
    COMBINATIONS,
    COVARIATES,
    EXTENDED,
    GATED,
    N_CLUSTERS,
    RESPONSES,
    SAMPLERS,
    WEIGHTS,
    Combination,
    rotation,
)
from tests.calibration.sbc import Ranks
from tests.calibration.svg import rank_plot
from tests.calibration.uniformity import chi_square, ecdf_test, holm

LEVEL = 0.001
_FEW_BINS, _FEW_POINTS = 8, 16


class Sizes(NamedTuple):
    """Replications of the main and of the other combinations, Geweke's chains, fits a model.

    The last are replications of families of responses, and of gates.
    """

    replications: int = 1000
    others: int = 100
    chains: int = 500
    fits: int = 100
    extended: int = 1000


class Study(NamedTuple):
    """What was found for one sampler."""

    sampler: str
    sizes: Sizes
    ranks: dict[Combination, Ranks]
    geweke: dict[Combination, dict[str, float]]
    fitted: dict[str, Ranks]
    extended: dict[Combination, Ranks]


class Tests(NamedTuple):
    """p-values of ranks: raw ones, and adjusted for all of a family."""

    owners: list[tuple[object, str, str]]
    raw: np.ndarray
    adjusted: np.ndarray

    def of(self, owner: object) -> np.ndarray:
        """Raw p-values of one combination."""
        return np.array([p for o, p in zip(self.owners, self.raw, strict=True) if o[0] == owner])


def rank_tests(found: dict[object, Ranks], *, few: bool = False) -> Tests:
    """Both tests of every quantity, adjusted as one family."""
    owners, raw = [], []
    for owner, ranks in found.items():
        for name, values in ranks.ranks.items():
            bins = (_FEW_BINS,) if few else ()
            points = (_FEW_POINTS,) if few else ()
            owners += [(owner, name, "chi-square"), (owner, name, "ECDF")]
            raw.append(chi_square(values, ranks.n_draws, *bins))
            raw.append(ecdf_test(values, ranks.n_draws, *points))
    return Tests(owners, np.array(raw), holm(raw))


def joint_tests(found: dict[object, dict[str, float]]) -> Tests:
    """Geweke's comparisons, adjusted as one family."""
    owners = [(owner, name, "z") for owner, values in found.items() for name in values]
    raw = np.array([p for values in found.values() for p in values.values()])
    return Tests(owners, raw, holm(raw))


def write(studies: list[Study], output: Path) -> bool:
    """Write the page and its plots; whether no test fails at its family-wise level."""
    (output / "calibration").mkdir(parents=True, exist_ok=True)
    page = [_introduction()]
    passed = True
    for study in studies:
        page += [f"## Sampler: {study.sampler}\n", _sizes(study)]
        families = []
        if study.ranks:
            families.append(rank_tests(study.ranks))
            page.append(_verdict("Ranks of the sampler's own functions", families[-1]))
            page += [_by_pair(study, families[-1]), _by_quantity(study, families[-1])]
            page.append(_plots(study, output))
        if study.extended:
            families.append(rank_tests(study.extended, few=True))
            page.append(_verdict("Families of responses, and gates", families[-1]))
            page += [_by_response(study, families[-1]), _extended_plot(study, output)]
        if study.fitted:
            families.append(rank_tests(study.fitted, few=True))
            page.append(_verdict("Ranks through `Model.fit`", families[-1]))
            page.append(_by_model(study, families[-1]))
        if study.geweke:
            families.append(joint_tests(study.geweke))
            page.append(_verdict("Geweke's comparison", families[-1]))
            page.append(_by_pair_joint(study, families[-1]))
        passed &= all(family.adjusted.min() >= LEVEL for family in families)
    (output / "calibration.md").write_text("\n".join(page), encoding="utf-8")
    return bool(passed)


def _introduction() -> str:
    text = (Path(__file__).parent / "introduction.md").read_text(encoding="utf-8")
    return text.format(
        rows=registry.N_ROWS,
        draws=registry.N_DRAWS,
        family_rows=registry.N_FAMILY_ROWS,
        family_draws=registry.N_FAMILY_DRAWS,
        joint_rows=geweke.N_ROWS,
        clusters=N_CLUSTERS,
        weights="; ".join(WEIGHTS),
        covariates=", ".join(COVARIATES),
        responses=", ".join(RESPONSES),
        families="; ".join(map(_title, EXTENDED)),
        fit_rows=library.N_ROWS,
        level=LEVEL,
    )


def _sizes(study: Study) -> str:
    main, others, chains, fits, more = study.sizes
    pairs = len(set(study.ranks) & set(rotation()))
    rest = len(COMBINATIONS) - len(rotation())
    parts = [
        f"{SAMPLERS[study.sampler].about} Run: {pairs} of {len(rotation())} pairs of weights and "
        f"covariates with one response and {main:,} replications; {len(study.ranks) - pairs} of "
        f"the {rest} combinations with the other responses"
    ]
    parts.append(f" and {others:,} replications" if others else "")
    if SAMPLERS[study.sampler].transition is not None:
        parts.append(f"; {len(study.geweke)} of {len(rotation())} pairs in Geweke's comparison")
        parts.append(f" of {chains:,} chains")
    parts.append(f"; {len(study.extended)} of {len(EXTENDED)} families and gates")
    parts.append(f" with {more:,} replications" if study.extended else "")
    parts.append(f"; {len(study.fitted)} of {len(library.MODELS)} models of {fits:,} fits each.\n")
    return "".join(parts)


def _verdict(what: str, tests: Tests) -> str:
    smallest = tests.adjusted.min()
    owner, name, kind = tests.owners[int(np.argmin(tests.raw))]
    place = owner.name if isinstance(owner, Combination) else owner
    verdict = "passed" if smallest >= LEVEL else "**failed**"
    return (
        f"### {what}\n\n{len(tests.raw)} tests, {verdict}: the smallest p-value is "
        f"{tests.raw.min():.2g}, adjusted {smallest:.2g} ({kind} of {name}; {place}). "
        f"Of the raw p-values {np.mean(tests.raw < 0.05):.1%} are below 0.05 and "
        f"{np.mean(tests.raw < 0.01):.1%} below 0.01.\n"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _smallest(found: list[np.ndarray]) -> str:
    every = np.concatenate(found) if found else np.array([])
    return f"{every.min():.2g} ({every.size})" if every.size else "–"


def _by_pair(study: Study, tests: Tests) -> str:
    rows = []
    for weights in WEIGHTS:
        cells = []
        for covariates in COVARIATES:
            own = [c for c in study.ranks if (c.weights, c.covariates) == (weights, covariates)]
            cells.append(_smallest([tests.of(c) for c in own]))
        rows.append([weights, *cells])
    caption = "Smallest p-value, and the number of tests, by weights and covariates.\n\n"
    return caption + _table(["weights", *COVARIATES], rows)


def _by_pair_joint(study: Study, tests: Tests) -> str:
    rows = []
    for weights in WEIGHTS:
        cells = []
        for covariates in COVARIATES:
            own = [c for c in study.geweke if (c.weights, c.covariates) == (weights, covariates)]
            cells.append(
                " ".join([_smallest([tests.of(c) for c in own]), *(c.response for c in own)])
            )
        rows.append([weights, *cells])
    caption = "Smallest p-value, the number of tests, and the response.\n\n"
    return caption + _table(["weights", *COVARIATES], rows)


def _by_quantity(study: Study, tests: Tests) -> str:
    names = dict.fromkeys(name for ranks in study.ranks.values() for name in ranks.ranks)
    rows = []
    for name in names:
        row = [name]
        for kind in ("chi-square", "ECDF"):
            chosen = [o[1] == name and o[2] == kind for o in tests.owners]
            raw = tests.raw[chosen]
            row += [f"{raw.min():.2g}", f"{stats.kstest(raw, 'uniform').pvalue:.2g}"]
        lags = [r.autocorrelation[name] for r in study.ranks.values() if name in r.ranks]
        rows.append([row[0], str(len(lags)), *row[1:], f"{np.mean(lags):.2f}", f"{max(lags):.2f}"])
    caption = (
        "By quantity: over all combinations the smallest p-value of each test; "
        "whether the p-values are themselves uniform (Kolmogorov-Smirnov; those of the ECDF are "
        "discrete); and the autocorrelation of thinned draws, average and largest.\n\n"
    )
    header = ["quantity", "combinations", "chi-square", "uniform", "ECDF", "uniform"]
    return caption + _table([*header, "autocorrelation", "largest"], rows)


def _by_model(study: Study, tests: Tests) -> str:
    rows = []
    for model, ranks in study.fitted.items():
        lag = max(ranks.autocorrelation.values())
        rows.append([model, _smallest([tests.of(model)]), f"{lag:.2f}"])
    header = ["model", "smallest p-value (tests)", "largest autocorrelation"]
    return _table(header, rows)


def _by_response(study: Study, tests: Tests) -> str:
    rows = []
    for combination, ranks in study.extended.items():
        own = tests.of(combination)
        worst = max(ranks.autocorrelation, key=ranks.autocorrelation.__getitem__)
        rows.append(
            [
                _title(combination),
                _smallest([own]),
                f"{min(1.0, own.min() * own.size):.2g}",
                f"{np.mean(list(ranks.autocorrelation.values())):.2f}",
                f"{ranks.autocorrelation[worst]:.2f} ({worst})",
            ]
        )
    caption = (
        "Smallest p-value of each model and the number of tests; that p-value times the number "
        "(Bonferroni); and the autocorrelation of thinned draws, average and largest.\n\n"
    )
    header = ["model", "smallest p-value (tests)", "adjusted in the model"]
    return caption + _table([*header, "autocorrelation", "largest"], rows)


def _title(combination: Combination) -> str:
    return combination.weights if combination.weights in GATED else combination.response


def _extended_plot(study: Study, output: Path) -> str:
    size = len(next(iter(next(iter(study.extended.values())).ranks.values())))
    found = {(_title(c), "families and gates"): ranks for c, ranks in study.extended.items()}
    name = f"calibration/{study.sampler}-families.svg"
    rows = [_title(c) for c in study.extended]
    (output / name).write_text(rank_plot(found, rows, ["families and gates"]), encoding="utf-8")
    what = f"Rank plots of families by {study.sampler}"
    return f"![{what}]({name})\n\nAs above, {size:,} replications.\n"


def _plots(study: Study, output: Path) -> str:
    main = {
        (c.weights, c.covariates): ranks
        for c, ranks in study.ranks.items()
        if len(next(iter(ranks.ranks.values()))) == study.sizes.replications
    }
    name = f"calibration/{study.sampler}.svg"
    picture = rank_plot(main, list(WEIGHTS), list(COVARIATES))
    (output / name).write_text(picture, encoding="utf-8")
    return (
        f"![Rank plots of {study.sampler}]({name})\n\nDistribution function of the ranks minus "
        f"the uniform one, a curve for each quantity, {study.sizes.replications:,} replications; "
        "the band holds all of a curve with probability 95%, so that one curve in twenty may "
        "leave it.\n"
    )
