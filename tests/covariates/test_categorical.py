"""Categorical covariates: against sums over levels by NumPy, and what the true parameters give."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import special

import clusterwise as cw
from clusterwise.core.errors import DataError, FormulaError, OptionError

pytestmark = pytest.mark.long

COLUMNS = ("c1", "c2", "c3")
LEVELS = {"c1": "abc", "c2": "ab", "c3": "abcd"}


def draw(n, seed):
    rng = np.random.default_rng(seed)
    shares = {name: rng.dirichlet(np.full(len(own), 0.3), 2) for name, own in LEVELS.items()}
    z = (rng.random(n) < 0.4).astype(int)
    data = {
        name: np.array(list(own))[[rng.choice(len(own), p=shares[name][k]) for k in z]]
        for name, own in LEVELS.items()
    }
    data["x"] = rng.normal(size=n)
    data["y"] = np.where(z == 1, 2 + data["x"], -1 - data["x"]) + 0.5 * rng.normal(size=n)
    return pd.DataFrame(data)


@pytest.fixture(scope="module")
def data():
    return draw(300, 0)


@pytest.fixture(scope="module")
def latent_classes(data):
    model = cw.Model(covariates="c1 + c2 + c3", prior="flat")
    return model.fit(data, engine="em", random_state=0)


def class_densities(fit, data):
    """(n, k) log probability of each row's levels in each component, by NumPy."""
    total = np.zeros((len(data), fit.n_components))
    for name, table in fit.levels.items():
        total += np.log(table.to_numpy()[:, [list(table).index(v) for v in data[name]]]).T
    return total


def test_density_is_the_sum_over_clusters(latent_classes, data):
    scores = np.log(latent_classes.weights.to_numpy()) + class_densities(latent_classes, data)
    expected = special.logsumexp(scores, axis=1)
    np.testing.assert_allclose(latent_classes.score_samples(data), expected, rtol=1e-9)
    assert latent_classes.log_likelihood == pytest.approx(expected.sum(), rel=1e-9)
    resp = np.exp(scores - expected[:, None])
    np.testing.assert_allclose(latent_classes.responsibilities(data), resp, atol=1e-9)


def test_probabilities_sum_to_one_over_all_rows(latent_classes):
    every = pd.DataFrame(list(itertools.product(*LEVELS.values())), columns=list(COLUMNS))
    assert np.exp(latent_classes.score_samples(every)).sum() == pytest.approx(1, abs=1e-9)


def test_maximum_likelihood_is_a_fixed_point_of_em(latent_classes, data):
    resp = latent_classes.responsibilities(data)
    np.testing.assert_allclose(latent_classes.weights, resp.mean(axis=0), atol=1e-5)
    for name, table in latent_classes.levels.items():
        shares = [(resp * (data[name] == v).to_numpy()[:, None]).sum(axis=0) for v in table]
        np.testing.assert_allclose(table, (np.array(shares) / resp.sum(axis=0)).T, atol=1e-4)


def test_text_among_covariates_is_categorical_and_numbers_are_gaussian(data):
    named = cw.Model("y ~ x", covariates="x + c1 + c2").fit(data, engine="em", random_state=0)
    parts = [cw.GaussianCovariates("x"), cw.CategoricalCovariates("c1 + c2")]
    listed = cw.Model("y ~ x", covariates=parts).fit(data, engine="em", random_state=0)
    assert named.log_likelihood == pytest.approx(listed.log_likelihood, rel=1e-9)
    assert list(named.means) == ["x"] and list(named.levels) == ["c1", "c2"]


def test_numbers_may_be_levels(data):
    codes = data.assign(c2=(data["c2"] == "b").astype(int))
    model = cw.Model("y ~ x", covariates=[cw.CategoricalCovariates("c2")])
    text = model.fit(data, engine="em", random_state=0)
    number = model.fit(codes, engine="em", random_state=0)
    assert number.log_likelihood == pytest.approx(text.log_likelihood, rel=1e-10)


def test_saved_simulated_and_drawn(data, tmp_path):
    fit = cw.Model("y ~ x", covariates="c1 + c3").fit(data, engine="vi", random_state=0)
    fit.save(tmp_path / "fit")
    np.testing.assert_array_equal(
        cw.load(tmp_path / "fit").responsibilities(data), fit.responsibilities(data)
    )
    drawn = fit.simulate(20_000, 0, data=data)
    for k in range(2):
        shares = drawn.loc[drawn["component"] == k, "c3"].value_counts(normalize=True)
        np.testing.assert_allclose(shares.reindex(list("abcd")), fit.levels["c3"].loc[k], atol=0.03)
    own = fit.posterior["posterior"]["probability_of_c1"]
    np.testing.assert_allclose(own.mean(("chain", "draw")), fit.levels["c1"], atol=0.02)


def test_simulated_from_parameters():
    model = cw.Model(covariates=[cw.CategoricalCovariates("g")])
    truth = {"weights": [0.5, 0.5], "levels": {"g": {"u": [0.1, 0.8], "v": [0.9, 0.2]}}}
    drawn = model.simulate(20_000, truth, random_state=0)
    shares = drawn.groupby("component")["g"].apply(lambda own: (own == "u").mean())
    np.testing.assert_allclose(shares, [0.1, 0.8], atol=0.02)
    with pytest.raises(OptionError, match="sum to 1"):
        model.simulate(10, truth | {"levels": {"g": {"u": [0.1, 0.8], "v": [0.9, 0.1]}}})


def test_what_cannot_be_is_named(data):
    with pytest.raises(FormulaError, match="c1:c2"):
        cw.Model("y ~ x", covariates=[cw.CategoricalCovariates("c1:c2")]).fit(data)
    with pytest.raises(OptionError, match="concentration"):
        cw.Model(
            "y ~ x",
            covariates=[cw.CategoricalCovariates("c1")],
            prior={"covariates": cw.NormalInverseGamma(0, 1, 1, 1)},
        ).fit(data)
    fit = cw.Model("y ~ x", covariates="c1").fit(data, engine="em", random_state=0)
    with pytest.raises(DataError, match=r"'z'.*never seen"):
        fit.responsibilities(data.assign(c1="z"))
    with pytest.raises(OptionError, match="CategoricalCovariates"):
        cw.Model("y ~ x", covariates="c1").numpyro(data)


def discrete_problem(seed, n=1000, k=5):
    """Six categorical columns, a logistic response, an intercept a cluster, two global slopes."""
    rng = np.random.default_rng(seed)
    sizes = (3, 4, 3, 4, 3, 4)
    shares = [rng.dirichlet(np.full(size, 0.3), size=k) for size in sizes]
    weights = rng.dirichlet(np.full(k, 10.0))
    intercepts = np.linspace(-2, 2, k)

    def rows(n):
        z = rng.choice(k, n, p=weights)
        codes = [np.array([rng.choice(len(p[j]), p=p[j]) for j in z]) for p in shares]
        u = rng.normal(size=(n, 2))
        eta = intercepts[z] + u @ [0.8, -0.5]
        y = (rng.random(n) < special.expit(eta)).astype(int)
        data = {f"c{j}": np.array(list("abcd"))[own] for j, own in enumerate(codes)}
        return pd.DataFrame({**data, "u1": u[:, 0], "u2": u[:, 1], "y": y}), codes, z

    def true_scores(data, codes):
        eta = intercepts + data[["u1", "u2"]].to_numpy() @ np.array([[0.8], [-0.5]])
        y = data["y"].to_numpy()[:, None]
        found = np.log(weights) + y * eta - np.logaddexp(0, eta)
        return found + sum(np.log(p[:, own]).T for p, own in zip(shares, codes, strict=True))

    return rows, true_scores


@pytest.mark.slow
def test_discrete_covariates_with_a_logistic_response_and_global_slopes():
    from sklearn.metrics import adjusted_rand_score

    covered, gaps = np.zeros(2), []
    for seed in range(20):
        rows, true_scores = discrete_problem(seed)
        (data, codes, z), (new, new_codes, _) = rows(1000), rows(1000)
        model = cw.Model(
            "y ~ u1 + u2",
            family="bernoulli",
            shared="u1 + u2",
            covariates=" + ".join(f"c{j}" for j in range(6)),
            n_components=5,
        )
        fit = model.fit(data, random_state=0)
        ideal = adjusted_rand_score(true_scores(data, codes).argmax(axis=1), z)
        found = adjusted_rand_score(fit.assign(data), z)
        # What is known of y once the covariates are, by row.
        joint = special.logsumexp(true_scores(new, new_codes), axis=1)
        both = [true_scores(new.assign(y=value), new_codes) for value in (0, 1)]
        alone = special.logsumexp(np.concatenate(both, axis=1), axis=1)
        ideal_score = (joint - alone).mean()
        score = np.log(fit.predict(new, kind="density")).mean()
        table = fit.summary().table
        slopes, sds = table[["u1", "u2"]].iloc[0], table[["u1 (sd)", "u2 (sd)"]].iloc[0]
        inside = np.abs(slopes.to_numpy() - [0.8, -0.5]) < 1.96 * sds.to_numpy()
        covered += inside
        gaps.append([ideal - found, ideal_score - score])
        print(f"{seed}: ARI {found:.3f} ({ideal:.3f}), score {score:.4f} ({ideal_score:.4f})")
    print("gaps", np.mean(gaps, axis=0), np.max(gaps, axis=0), "covered", covered)
    assert np.mean(gaps, axis=0)[0] < 0.03 and np.mean(gaps, axis=0)[1] < 0.01
    assert covered.min() >= 17
