"""Rows that share a cluster, against enumeration of the groups' clusters with SciPy's densities."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import clusterwise as cw
from clusterwise.bootstrap import resampler, simulator
from clusterwise.cli.app import app
from clusterwise.core.groups import GroupColumns, pack_groups
from clusterwise.core.rows import Rows
from clusterwise.refit import assemble_again
from tests import derivatives

N_GROUPS = 40
TRUTH = {"weights": [0.6, 0.4], "coefficients": [[0, 2], [1, -1]], "sigma": [1.0, 1.0]}


@pytest.fixture(scope="module")
def rows():
    """Groups of one to four rows, which lie anywhere."""
    rng = np.random.default_rng(2)
    ids = np.repeat([f"p{i}" for i in range(N_GROUPS)], rng.integers(1, 5, N_GROUPS))
    frame = pd.DataFrame({"id": rng.permutation(ids), "x": rng.normal(size=ids.size)})
    model = cw.Model("y ~ x", groups="id")
    simulated = model.simulate(None, TRUTH, 1, data=frame)
    return frame.assign(y=simulated["y"], component=simulated["component"])


@pytest.fixture(scope="module")
def model():
    return cw.Model("y ~ x", groups="id", prior="flat")


@pytest.fixture(scope="module")
def fit(model, rows):
    return model.fit(rows, engine=cw.EM(n_init=4), random_state=0)


def by_group(fit, rows):
    """Log weight plus the log density of each group (groups, k), in order of first appearance."""
    line = fit.coefficients.to_numpy()
    mean = line[:, 0] + rows["x"].to_numpy()[:, None] * line[:, 1]
    scores = stats.norm.logpdf(
        rows["y"].to_numpy()[:, None], mean, fit.dispersion["sigma"].to_numpy()
    )
    codes, ids = pd.factorize(rows["id"])
    total = np.zeros((len(ids), 2))
    np.add.at(total, codes, scores)
    return total + np.log(fit.weights.to_numpy()), codes


def test_rows_of_a_group_are_simulated_from_one_cluster(rows):
    assert (rows.groupby("id")["component"].nunique() == 1).all()
    assert rows["component"].nunique() == 2


def test_density_and_probabilities_are_those_of_groups(fit, rows):
    total, codes = by_group(fit, rows)
    density = np.logaddexp(*total.T)
    np.testing.assert_allclose(fit.score_samples(rows), density, rtol=1e-9)
    np.testing.assert_allclose(fit.log_likelihood, density.sum(), rtol=1e-8)
    expected = np.exp(total - density[:, None])[codes]
    np.testing.assert_allclose(fit.responsibilities(rows), expected, atol=1e-8)
    assert fit.n_groups == N_GROUPS
    assert fit.bic == pytest.approx(7 * np.log(N_GROUPS) - 2 * density.sum())
    entropy = -(expected * np.log(expected)).sum(axis=1)
    once = np.unique(codes, return_index=True)[1]
    assert fit.icl == pytest.approx(fit.bic + 2 * entropy[once].sum())


def test_the_maximum_is_that_of_the_groups_likelihood(fit, rows):
    total, _ = by_group(fit, rows)
    # At a maximum the weights are the average probabilities of the groups.
    shares = np.exp(total - np.logaddexp(*total.T)[:, None])
    np.testing.assert_allclose(fit.weights, shares.mean(axis=0), atol=1e-4)


@pytest.mark.long
def test_errors_are_those_of_the_groups_likelihood(fit, rows):
    """The curvature in which each group has one cluster, by differences."""
    codes, ids = pd.factorize(rows["id"])
    x, y = rows[["x"]].to_numpy(), rows[["y"]].to_numpy()

    def log_likelihood(flat):
        intercept, slope, sigma, weight = flat[:2], flat[2:4], flat[4:6], flat[6]
        total = np.zeros((len(ids), 2))
        np.add.at(total, codes, stats.norm.logpdf(y, intercept + slope * x, sigma))
        return np.logaddexp(*(total + np.log([weight, 1 - weight])).T).sum()

    table = fit.summary().table[["Intercept", "x", "sigma"]]
    at = np.append(table.to_numpy().T.ravel(), fit.weights[0])
    expected = derivatives.errors(log_likelihood, at, np.full(7, 1e-4))
    errors = fit.standard_errors(rows)
    found = np.append(errors.table[table.columns].to_numpy().T.ravel(), errors.weights[0])
    # The fit ends within 1e-4 of the maximum, where the two curvatures are the same.
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.fixture(scope="module")
def resampled(fit, rows):
    return fit.bootstrap(rows, 60, random_state=1)


@pytest.mark.long
def test_a_replicate_is_the_fit_of_the_groups_that_were_drawn(fit, model, rows, resampled):
    """A group that was drawn twice is two groups, each with a cluster of its own."""
    source = assemble_again(model, fit.record, rows).problem.source
    draw = resampler(source, fit.record.layout.group_columns)
    weight = draw(np.random.default_rng(1).spawn(60)[7]).unpacked(0)[:, -1]
    codes, ids = pd.factorize(rows["id"])
    times = pd.Series(weight).groupby(np.sort(codes)).unique()
    assert times.map(len).max() == 1
    times = times.str[0].astype(int).to_numpy()
    assert times.sum() == N_GROUPS
    whole = dict(list(rows.groupby("id")))
    drawn = [whole[ids[g]].assign(id=f"{ids[g]}-{c}") for g in range(N_GROUPS)
             for c in range(times[g])]  # fmt: skip
    again = model.fit(pd.concat(drawn), engine=cw.EM(n_init=4), random_state=0).summary().table
    own = resampled.replicates.loc[7]
    order = np.argsort(np.abs(again["x"].to_numpy()[:, None] - own["x"].to_numpy()), axis=0)[0]
    np.testing.assert_allclose(again.to_numpy()[order], own, atol=1e-3)


@pytest.mark.long
def test_both_bootstraps_of_groups_are_close_to_the_observed_information(fit, rows, resampled):
    """The spread of 60 replicates has an error of 9 per cent; groups are few."""
    errors = fit.standard_errors(rows).table
    for found in (resampled, fit.bootstrap(rows, 60, kind="parametric", random_state=2)):
        ratio = found.standard_errors / errors
        assert ratio.to_numpy().min() > 0.6
        assert ratio.to_numpy().max() < 1.6


@pytest.mark.slow
def test_the_likelihood_ratio_is_that_of_groups(fit, model, rows):
    """One cluster is least squares, whatever the groups; two are far apart here."""
    found = cw.likelihood_ratio_test(model, rows, n_replicates=9, random_state=0)
    residuals = rows["y"] - np.polyval(np.polyfit(rows["x"], rows["y"], 1), rows["x"])
    null = stats.norm.logpdf(residuals, 0, residuals.std(ddof=0)).sum()
    assert found.null.log_likelihood == pytest.approx(null)
    assert found.statistic == pytest.approx(2 * (fit.log_likelihood - null), abs=1e-3)
    assert found.p_value == 0.1
    assert found.notes == ()


def test_rows_that_are_simulated_keep_their_groups(fit, model, rows):
    source = assemble_again(model, fit.record, rows).problem.source
    drawn = simulator(fit, rows, source, "", "")(np.random.default_rng(0)).unpacked(0)
    own, columns = source.unpacked(0), fit.record.layout.group_columns
    np.testing.assert_array_equal(drawn[:, list(columns)], own[:, list(columns)])
    frame = fit.simulate(None, np.random.default_rng(0), data=rows)
    assert (frame.groupby("id")["component"].nunique() == 1).all()
    y = fit.reader.response_values(drawn, 0)
    order = np.argsort(pd.factorize(rows["id"])[0], kind="stable")
    np.testing.assert_allclose(y, frame["y"].to_numpy()[order])


def test_the_order_of_rows_does_not_matter(model, fit, rows):
    shuffled = rows.sample(frac=1, random_state=3)
    again = model.fit(shuffled, engine=cw.EM(n_init=4), random_state=0)
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-6)
    moved = fit.responsibilities(shuffled)
    np.testing.assert_allclose(
        moved, fit.responsibilities(rows)[rows.index.get_indexer(shuffled.index)], atol=1e-12
    )


@pytest.mark.long
def test_groups_of_one_row_are_no_groups(rows):
    own = rows.assign(id=np.arange(len(rows)))
    alone = cw.Model("y ~ x").fit(own, engine=cw.VI(n_init=2), random_state=0)
    single = cw.Model("y ~ x", groups="id").fit(own, engine=cw.VI(n_init=2), random_state=0)
    assert single.objective == pytest.approx(alone.objective, rel=1e-10)
    np.testing.assert_allclose(single.responsibilities(own), alone.responsibilities(own), atol=1e-7)


@pytest.mark.long
def test_whole_weights_are_repeated_rows(fit, model, rows):
    times = np.random.default_rng(0).integers(0, 3, len(rows))
    repeated = rows.loc[rows.index.repeat(times)]
    weighted = cw.Model("y ~ x", groups="id", prior="flat", sample_weight="w")
    one = weighted.fit(rows.assign(w=times), engine=cw.EM(n_init=2), random_state=0)
    other = model.fit(repeated, engine=cw.EM(n_init=2), random_state=0)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-6)
    assert one.n_groups == other.n_groups
    repeats = other.responsibilities(repeated)
    times = pd.Series(times, rows.index)
    counted = one.responsibilities(rows.assign(w=times))[rows.index.get_indexer(repeated.index)]
    np.testing.assert_allclose(counted, repeats, atol=1e-4)
    assert one.bic == pytest.approx(other.bic, abs=1e-5)


def test_chunks_end_where_groups_do():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    values = np.column_stack([np.ones(len(numbers)), rng.normal(size=len(numbers)),
                              np.zeros((len(numbers), 2))])  # fmt: skip
    columns = GroupColumns(2, 3)
    columns.mark(values, np.ones(len(numbers)), numbers)
    blocks = pack_groups(values, np.ones(len(numbers)), columns, chunk_rows=16)
    back = np.concatenate([b.transpose(0, 2, 1).reshape(-1, 5) for b in blocks])
    kept = back[back[:, 0] != 0]
    np.testing.assert_array_equal(kept[:, :-1], values)
    for block in blocks:
        used = block[:, 0, 0] != 0
        assert (block[used][:, 2, 0] > 0).all()


def test_a_group_of_some_multiple_of_its_weights_counts_as_often():
    columns, weight = GroupColumns(1, 2), np.array([1.0, 1.0, 49.0, 2.0, 0.7, 1.0])
    values = np.ones((6, 3))
    columns.mark(values, weight, np.array([0, 0, 1, 1, 2, 3]))
    for times in (np.ones(6), np.array([2.0, 2.0, 3.0, 3.0, 1.0, 0.0])):
        once = columns.once(Rows(values.T, times * weight))
        np.testing.assert_allclose(once, times * [1, 0, 1, 0, 1, 1], rtol=1e-15)


@pytest.fixture(scope="module")
def few():
    """Rows so few that all clusters of all groups can be enumerated."""
    rng = np.random.default_rng(4)
    ids = np.repeat(np.arange(5), [1, 2, 3, 2, 1])
    y = np.array([-1.0, 1.0, 1.0, -1.0, 1.0])[ids] + rng.normal(size=ids.size)
    return pd.DataFrame({"id": ids, "y": y})


@pytest.mark.long
@pytest.mark.parametrize("engine", [cw.Gibbs(200, 4000, 2, n_init=1), cw.NUTS(300, 1500, 2,
                                                                            n_init=1)])  # fmt: skip
def test_samplers_draw_the_posterior_of_groups(few, engine):
    """With known sigma and normal means, the groups' partition has a closed posterior."""
    prior = {"y": cw.Normal(0.0, 4.0)}
    model = cw.Model("y ~ 1", family=cw.Gaussian(sigma=1.0), groups="id", prior=prior)
    fit = model.fit(few, engine=engine, random_state=0)
    together = np.zeros((5, 5))
    whole = 0.0
    for labels in itertools.product((0, 1), repeat=5):
        label = np.array(labels)
        counts = np.bincount(label, minlength=2)
        # Uniform weights integrated out: a beta function.
        log_prob = stats.betabinom.logpmf(counts[0], 5, 1, 1) - np.log(
            np.exp(np.sum(np.log(np.arange(1, 6))) - sum(np.sum(np.log(np.arange(1, c + 1)))
                                                         for c in counts))
        )  # fmt: skip
        for k in (0, 1):
            y = few["y"].to_numpy()[label[few["id"]] == k]
            if y.size:
                covariance = np.eye(y.size) + 4.0
                log_prob += stats.multivariate_normal.logpdf(y, np.zeros(y.size), covariance)
        share = np.exp(log_prob)
        together += share * (label[:, None] == label)
        whole += share
    first = np.unique(few["id"], return_index=True)[1]
    found = fit.similarity(few, n_draws=3000)[np.ix_(first, first)]
    np.testing.assert_allclose(found, together / whole, atol=0.03)


@pytest.fixture(scope="module")
def drawn(rows):
    return cw.Model("y ~ x", groups="id").fit(
        rows, engine=cw.Gibbs(50, 60, 2, n_init=2), random_state=0
    )


@pytest.mark.long
def test_draws_know_groups(drawn, rows, tmp_path):
    tree = drawn.posterior
    likelihood = tree["log_likelihood"]["y"]
    assert likelihood.sizes["group_id"] == N_GROUPS
    total = tree["sample_stats"]["total_log_likelihood"]
    np.testing.assert_allclose(likelihood.sum("group_id"), total, rtol=1e-8)
    observed = tree["observed_data"]["y"].sortby("obs_id")
    np.testing.assert_allclose(observed, rows["y"], rtol=1e-12)
    similar, first = drawn.similarity(rows), pd.factorize(rows["id"])[0]
    np.testing.assert_allclose(similar[first[:, None] == first], 1.0)
    labels = drawn.partition(rows).labels
    assert (pd.Series(labels).groupby(first).nunique() == 1).all()
    drawn.save(tmp_path / "fit")
    again = cw.load(tmp_path / "fit")
    assert again.n_groups == N_GROUPS
    np.testing.assert_allclose(again.responsibilities(rows), drawn.responsibilities(rows))


@pytest.mark.long
def test_predictions_know_the_group_where_covariates_tell_it(rows):
    joint = cw.Model("y ~ x", covariates="x", groups="id")
    fit = joint.fit(rows, engine=cw.EM(n_init=2), random_state=0)
    shares = fit.responsibilities(rows, use_response=False)
    line = fit.coefficients.to_numpy()
    mean = line[:, 0] + rows["x"].to_numpy()[:, None] * line[:, 1]
    np.testing.assert_allclose(fit.predict(rows), (shares * mean).sum(axis=1), rtol=1e-9)


@pytest.mark.long
def test_the_command_line_takes_groups(rows, tmp_path):
    from typer.testing import CliRunner

    rows.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["fit", str(tmp_path / "rows.csv"), "y ~ x", "--groups", "id", "--engine", "em"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), "--quiet"])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert document["n_groups"] == N_GROUPS
    written = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    assert (written.groupby(rows["id"].to_numpy())["p_0"].nunique() == 1).all()


def test_what_cannot_be_grouped_is_refused(rows):
    model = cw.Model("y ~ x", groups="id")
    with pytest.raises(cw.DataError, match=r"'id'.*missing in 1 rows \(from 0: 3"):
        model.fit(rows.assign(id=rows["id"].where(rows.index != 3)))
    with pytest.raises(cw.OptionError, match="above the number of groups"):
        cw.Model("y ~ x", groups="id", n_components=41).fit(rows)
    with pytest.raises(cw.DataError, match="who"):
        cw.Model("y ~ x", groups="who").fit(rows)
    with pytest.raises(cw.OptionError, match="groups='id'"):
        cw.Model("y ~ x", groups="id").numpyro(rows)


def test_missing_values_in_groups_are_integrated_out(rows):
    """Within a group each row has the density of what it has."""
    rng = np.random.default_rng(7)
    gone = rng.random(len(rows)) < 0.3
    gaps = rows.assign(x=rows["x"].where(~gone))
    joint = cw.Model("y ~ x", covariates="x", groups="id", prior="flat")
    fit = joint.fit(gaps, engine=cw.EM(n_init=2), random_state=0)
    line, sigma = fit.coefficients.to_numpy(), fit.dispersion["sigma"].to_numpy()
    mean, variance = fit.means["x"].to_numpy(), np.array([c.iloc[0, 0] for c in fit.covariances])
    x, y = gaps["x"].to_numpy()[:, None], gaps["y"].to_numpy()[:, None]
    whole = stats.norm.logpdf(x, mean, np.sqrt(variance))
    whole += stats.norm.logpdf(y, line[:, 0] + x * line[:, 1], sigma)
    alone = stats.norm.logpdf(
        y, line[:, 0] + mean * line[:, 1], np.sqrt(sigma**2 + line[:, 1] ** 2 * variance)
    )
    codes, ids = pd.factorize(gaps["id"])
    total = np.zeros((len(ids), 2))
    np.add.at(total, codes, np.where(gone[:, None], alone, whole))
    density = np.logaddexp(*(total + np.log(fit.weights.to_numpy())).T)
    np.testing.assert_allclose(fit.log_likelihood, density.sum(), rtol=1e-8)
    np.testing.assert_allclose(fit.score_samples(gaps), density, rtol=1e-8)
