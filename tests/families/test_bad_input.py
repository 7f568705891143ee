"""What no family can take is an error that names the column and the row, and says what to do."""

import numpy as np
import pandas as pd
import pytest

import clusterwise as cw

N = 40


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "count": rng.poisson(3, N).astype(float),
            "cost": rng.gamma(2, 1, N),
            "bit": np.arange(N) % 2.0,
            "hits": rng.binomial(5, 0.5, N).astype(float),
            "tries": 5.0,
            "hours": 1.0,
            "one": "a",
        }
    )


def refused(data, family, response, column=None, value=None, **options):
    wrong = data if column is None else data.assign(**{column: data[column].astype(object)})
    if column is not None:
        wrong.loc[7, column] = value
        wrong = wrong.astype({column: float})
    model = cw.Model(f"{response} ~ x", family=family, **options)
    with pytest.raises((cw.DataError, cw.OptionError)) as error:
        model.fit(wrong, engine="em", random_state=0)
    return str(error.value)


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "zero_inflated_poisson"])
@pytest.mark.parametrize("value", [-2, 1.5])
def test_counts(data, family, value):
    text = refused(data, family, "count", "count", value)
    assert text.startswith("The response 'count' is not a count")
    assert f"in 1 row (from 0: 7), first {value}; correct or drop" in text


@pytest.mark.parametrize(
    ("family", "response", "column", "value", "said"),
    [
        (
            "binomial",
            "hits",
            "hits",
            9,
            "'hits' is above its number of trials in 1 row (from 0: 7)",
        ),
        ("binomial", "hits", "tries", 5.5, "trials='tries' is not a count"),
        ("binomial", "hits", "tries", np.nan, "column 'tries' has missing values in 1 row"),
        ("gamma", "cost", "cost", 0, "'cost' is not positive in 1 row (from 0: 7)"),
        ("gamma", "cost", "cost", -1, "'cost' is not positive in 1 row (from 0: 7)"),
        ("bernoulli", "bit", "bit", 2, "'bit' is neither 0 nor 1 in 1 row (from 0: 7)"),
    ],
)
def test_other_responses(data, family, response, column, value, said):
    options = {"trials": "tries"} if family == "binomial" else {}
    assert said in refused(data, family, response, column, value, **options)


@pytest.mark.parametrize("family", ["bernoulli", "categorical", "ordinal"])
def test_one_class(data, family):
    text = refused(data, family, "one")
    assert "'one'" in text and ("constant" in text or "has 1 level" in text)


def test_offsets(data):
    text = refused(data, "poisson", "count", "hours", np.nan, offset="hours")
    assert "column 'hours' has missing values in 1 row (from 0: 7)" in text
    text = refused(data, "poisson", "count", "hours", 0, offset="log(hours)")
    assert (
        "'log(hours)' is not a finite number in 1 row (from 0: 7)" in text and "hours = 0" in text
    )


def test_shared_terms_that_are_not_there(data):
    text = refused(data, "poisson", "count", shared="z")
    assert text == "shared='z' names 'z'; the formula has '1', 'x'."
