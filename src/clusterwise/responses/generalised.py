"""What families with linear predictors share: their block, their prior, their predictions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from clusterwise.core.errors import DataError, OptionError
from clusterwise.posteriors.coefficients import NormalCoefficients
from clusterwise.posteriors.scales import ScalePrior
from clusterwise.posteriors.specification import Normal, as_matrix, as_vector
from clusterwise.regression.columns import PartColumns
from clusterwise.regression.generalised_linear import GeneralisedLinear
from clusterwise.regression.likelihood import AbstractLikelihood
from clusterwise.regression.prior import LinearFrame, ResponseSample
from clusterwise.regression.structure import PLAIN, Draft, Structure
from clusterwise.responses.family import AbstractFamily

_INTERCEPT_SD = 5.0
_SLOPE_SD = 2.5
_FLAT = 1e-11


class AbstractGeneralised(AbstractFamily, AbstractLikelihood):
    """A response by linear predictors: first those of the regressors, then the dispersions.

    Coefficients have independent normal priors: by default with standard deviation 2.5 for
    regressors of unit variance, as Gelman, Jakulin, Pittau and Su (2008, Annals of Applied
    Statistics 2) scale them, and 5 for an intercept about that of all rows.
    """

    dispersions: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that do not depend on the row, one more predictor each."""
    dispersion_sd: ClassVar[tuple[float, ...]] = (2.0,)
    """Of their default priors, one after the other, from the beginning where there are more."""

    @property
    def described(self) -> str:
        """What a response of the family is called in messages."""
        return f"a {self.name} response"

    def n_predictors(self, n_responses: int) -> int:
        return 1

    @property
    def shared_dispersion(self) -> bool:
        """Whether all clusters have one dispersion."""
        return False

    def n_constants(self, n_responses: int) -> int:
        """Number of the predictors that do not depend on the row."""
        return len(self.dispersion_names)

    def n_dispersion(self, n_components: int, n_responses: int) -> int:
        return self.n_constants(n_responses) * (1 if self.shared_dispersion else n_components)

    def block(self, columns: PartColumns) -> GeneralisedLinear:
        responses, trials = columns.responses, columns.trials
        linear = (columns.regressors,) * self.n_predictors(len(responses))
        constants = ((0,),) * self.n_constants(len(responses))
        observed = responses if trials is None else (*responses, trials)
        return GeneralisedLinear((*linear, *constants), observed, columns.offset, self)

    def known_constants(self, n_responses: int) -> tuple[int, ...]:
        """Which of the predictors that do not depend on the row are known, where centred."""
        return ()

    def prior(
        self, what: str, frame: LinearFrame, prior: Any, structure: Structure = PLAIN
    ) -> NormalCoefficients | ScalePrior:
        q = frame.response_scale.size
        p, m, n_constants = frame.n_regressors, self.n_predictors(q), self.n_constants(q)
        middle = self.centre(frame)
        mean = np.zeros((m, p))
        if frame.has_intercept:
            mean[:, 0] = middle[:m]
        precision = np.eye(p) / _SLOPE_SD**2
        if frame.has_intercept:
            precision[0, 0] = 1 / _INTERCEPT_SD**2
        if isinstance(prior, Normal):
            scale, shift = frame.response_scale[0], frame.shift[:, 0]
            inverse = np.linalg.inv(frame.to_data)
            given = as_vector(prior.mean, p, f"The prior of {what}: mean")
            mean[:] = inverse @ (given - shift) / scale
            covariance = as_matrix(prior.covariance, p, f"The prior of {what}: covariance")
            precision = frame.to_data.T @ np.linalg.inv(covariance) @ frame.to_data * scale**2
        elif prior == "flat":
            precision = _FLAT * np.eye(p)
        elif prior != "default":
            raise OptionError(
                f"The prior of {what} is {type(prior).__name__}; {self.described} takes "
                "cw.Normal(mean, covariance) for its coefficients."
            )
        size = m * p + n_constants
        whole = np.eye(size) * _FLAT
        if prior != "flat" and n_constants:
            sds = np.resize(self.dispersion_sd, n_constants)
            whole[m * p :, m * p :] = np.diag(1 / np.square(sds))
        for i in range(m):
            whole[i * p : (i + 1) * p, i * p : (i + 1) * p] = precision
        shared = [(i * p + j, own) for i in range(m) for j, own in structure.shared]
        if self.shared_dispersion:
            shared += [(place, ()) for place in range(m * p, size)]
        common = {j for j, _ in structure.shared}
        own = [(i, j) for i in range(m) for j in range(p) if j not in common]
        names = structure.terms or tuple(map(str, range(p)))
        known = tuple(m * p + i for i in self.known_constants(q))
        centre = np.concatenate([mean.ravel(), middle[m:]])
        draft = Draft(
            what,
            np.broadcast_to(centre, (frame.n_components, size)),
            whole,
            tuple(shared),
            known,
            tuple(i for i in range(m * p, size) if i not in known and not self.shared_dispersion),
            tuple(i * p + j for i, j in own),
            tuple(i * p for i in range(m)) if frame.has_intercept else (),
            tuple(names[j] for _, j in own),
            np.array([frame.to_data[j, j] * frame.response_scale[i] for i, j in own]),
            isinstance(prior, Normal),
        )
        return structure.coefficients.prior(draft)

    def centre(self, frame: LinearFrame) -> np.ndarray:
        """Intercepts and dispersions of all rows, where the prior is centred."""
        sample = frame.sample
        if sample is None:
            q = frame.response_scale.size
            return np.zeros(self.n_predictors(q) + self.n_constants(q))
        return self.pooled(sample)

    @abstractmethod
    def pooled(self, sample: ResponseSample) -> np.ndarray:
        """Intercepts, then dispersions, that fit all rows about as well as any."""

    @abstractmethod
    def distribution(self, predictors: np.ndarray, trials: np.ndarray | None) -> Any:
        """SciPy's distribution of the response; predictors lead with their own axis."""

    @property
    def dispersion_names(self) -> tuple[str, ...]:
        return self.dispersions

    def draw(
        self,
        predictors: np.ndarray,
        dispersion: dict[str, np.ndarray],
        trials: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        rest = [self.as_predictor(name, dispersion[name]) for name in self.dispersion_names]
        return self.distribution(np.stack([*predictors, *rest]), trials).rvs(random_state=rng)

    def as_predictor(self, name: str, value: np.ndarray) -> np.ndarray:
        """A dispersion as its predictor has it; `dispersion` is the inverse."""
        return np.log(value)

    def dispersion(self, values: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
        """Dispersions (..., n) as the predictors have them, by name, on the scale of reports.

        `scale` is what the response was divided by.
        """
        return {name: np.exp(values[..., i]) for i, name in enumerate(self.dispersion_names)}

    def variance(self, constants: np.ndarray) -> np.ndarray | None:
        """Residual variances (k,) of which the likelihood is unbounded as one vanishes.

        From the constant predictors (k, n), in standard units; None where there is none.
        """
        return None


def check_counts(what: str, response: np.ndarray, at: np.ndarray) -> None:
    """Refuse counts that are negative or not whole."""
    wrong = np.flatnonzero(((response < 0) | (response != np.round(response))).any(axis=1))
    refuse(what, wrong, at, response, "is not a count (a whole number, zero or more)")


def refuse(
    what: str, wrong: np.ndarray, at: np.ndarray, values: np.ndarray, why: str, cure: str = ""
) -> None:
    """Raise for rows with wrong values, naming the first of them."""
    if wrong.size:
        shown = ", ".join(map(str, at[wrong[:5]]))
        value = values.reshape(len(values), -1)[wrong[0]].max()
        raise DataError(
            f"{what} {why} in {wrong.size} row{'s' if wrong.size > 1 else ''} (from 0: {shown}), "
            f"first {value:g}; "
            f"{cure or 'correct or drop them, or choose another family'}."
        )
