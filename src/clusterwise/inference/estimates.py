"""Point estimates as pandas objects with the data's names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from clusterwise.assembly.layout import Layout
from clusterwise.assembly.units import Values

NOT_IDENTIFIED = " (not identified)"
"""Behind the name of a term of which the data say nothing."""
STICK = "stick"
"""Column of each component's place in the order of sticks."""


class Estimates(NamedTuple):
    """Parameters in data units, and the names that they go by."""

    layout: Layout
    values: Values

    @property
    def components(self) -> pd.RangeIndex:
        """Numbers of the components."""
        return pd.RangeIndex(self.values.weights.size, name="component")

    def modelled(self, i: int) -> list[str]:
        """Columns that a density models."""
        part = self.layout.parts[i]
        return [part.names[j] for j in part.kept_names]

    def not_identified(self) -> tuple[tuple[str, str], ...]:
        """(response, term) of coefficients that the data do not identify."""
        return tuple(
            (name, term)
            for name, i in self.layout.responses
            for j, term in enumerate(self.layout.parts[i].terms)
            if j not in self.layout.parts[i].kept_terms
        )

    def gates(self) -> pd.DataFrame:
        """Coefficients of the weights: one row a component, or (component, stick)."""
        gate, values = self.layout.gate, self.values.gates
        if gate is None or values is None:
            return pd.DataFrame(index=self.components)
        index: pd.Index = self.components
        if self.values.sticks is not None:
            names = ["component", STICK]
            index = pd.MultiIndex.from_arrays([self.components, self.values.sticks], names=names)
        return pd.DataFrame(values, index=index, columns=pd.Index(gate.terms))

    def coefficients(self) -> pd.DataFrame:
        """One row a component, one column a term, or (response, term).

        A response with several predictors has one for each, by their names.
        """
        frames = {}
        for name, i in self.layout.responses:
            part, values = self.layout.parts[i], self.values.parts[i].coefficients
            labels = part.predictors
            for j, label in enumerate(labels):
                frames[name if len(labels) == 1 else label] = pd.DataFrame(
                    values[:, :, j], index=self.components, columns=pd.Index(part.terms)
                )
        return self._by_response(frames)

    def dispersion(self) -> pd.DataFrame:
        """Dispersion of each component's regression, such as sigma of a Gaussian response."""
        return self._by_response(
            {
                name: pd.DataFrame(self.values.parts[i].dispersion, index=self.components)
                for name, i in self.layout.responses
            }
        )

    def means(self) -> pd.DataFrame:
        """Mean of each modelled covariate in each component."""
        frames = [
            pd.DataFrame(
                self.values.parts[i].coefficients[:, 0, :],
                index=self.components,
                columns=pd.Index(self.modelled(i)),
            )
            for i in self.layout.gaussian
        ]
        return pd.concat(frames, axis=1) if frames else pd.DataFrame(index=self.components)

    def covariances(self) -> list[pd.DataFrame]:
        """Covariance matrix of the modelled covariates of each component."""
        names = [name for i in self.layout.gaussian for name in self.modelled(i)]
        found = []
        for k in range(len(self.components)):
            whole = np.zeros((len(names), len(names)))
            at = 0
            for i in self.layout.gaussian:
                covariance = self.values.parts[i].covariance
                assert covariance is not None
                block = covariance[k]
                whole[at : at + len(block), at : at + len(block)] = block
                at += len(block)
            found.append(pd.DataFrame(whole, index=names, columns=pd.Index(names)))
        return found

    def population(self, drawn: Values | None) -> pd.DataFrame:
        """Means and deviations over clusters of pooled coefficients; `drawn` are of a posterior.

        One row a term, or (response, term), or (predictor, term).
        """
        frames = {}
        for name, i in self.layout.responses:
            part, labels = self.layout.parts[i], self.layout.parts[i].predictors
            own = self.values.parts[i] if drawn is None else drawn.parts[i]
            if own.pooled_mean is None or own.pooled_sd is None:
                continue
            for j, label in enumerate(labels):
                columns: dict[str, np.ndarray] = {}
                for what, value in (("mean", own.pooled_mean), ("sd", own.pooled_sd)):
                    shown = value[..., j]
                    columns[what] = shown if drawn is None else shown.mean(axis=(0, 1))
                    if drawn is not None:
                        columns[f"{what} (sd)"] = shown.std(axis=(0, 1))
                frame = pd.DataFrame(columns, index=pd.Index(part.terms, name="term"))
                frames[name if len(labels) == 1 else label] = frame
        return next(iter(frames.values())) if len(frames) == 1 else pd.concat(frames)

    def table(self, spread: Values | None) -> pd.DataFrame:
        """All of them side by side, with standard deviations where `spread` has any."""
        columns: dict[str, np.ndarray] = {"weight": self.values.weights}
        if spread is not None:
            columns["weight (sd)"] = spread.weights
        gate = self.layout.gate
        for j, term in enumerate(() if gate is None else gate.terms):
            assert gate is not None and self.values.gates is not None
            known = j in gate.kept_terms
            columns[f"gate: {term}{'' if known else NOT_IDENTIFIED}"] = self.values.gates[:, j]
            if spread is not None and known and spread.gates is not None:
                columns[f"gate: {term} (sd)"] = spread.gates[:, j]
        if self.values.sticks is not None:
            columns[STICK] = self.values.sticks
        unidentified = self.not_identified()
        for name, i in self.layout.responses:
            prefix = "" if len(self.layout.responses) == 1 else f"{name}: "
            values, part = self.values.parts[i], self.layout.parts[i]
            labels = part.predictors
            for m, own in enumerate(labels):
                lead = prefix if len(labels) == 1 else f"{own}: "
                for j, term in enumerate(part.terms):
                    label = f"{lead}{term}"
                    if (name, term) in unidentified:
                        columns[f"{label}{NOT_IDENTIFIED}"] = values.coefficients[:, j, m]
                        continue
                    columns[label] = values.coefficients[:, j, m]
                    if spread is not None:
                        columns[f"{label} (sd)"] = spread.parts[i].coefficients[:, j, m]
            for what, value in values.dispersion.items():
                columns[f"{prefix}{what}"] = value
        for i in self.layout.gaussian:
            values = self.values.parts[i]
            for j, name in zip(self.layout.parts[i].kept_names, self.modelled(i), strict=True):
                columns[f"mean of {name}"] = values.coefficients[:, 0, j]
            assert values.covariance is not None
            for j, name in enumerate(self.modelled(i)):
                columns[f"sd of {name}"] = np.sqrt(values.covariance[:, j, j])
        for name, frame in self.levels().items():
            columns |= {f"P({name} = {level})": frame[level].to_numpy() for level in frame}
        for name, frame in self.profiles().items():
            columns |= {f"{what} of {name}": frame[what].to_numpy() for what in frame}
        return pd.DataFrame(columns, index=self.components)

    def levels(self) -> dict[str, pd.DataFrame]:
        """Probabilities of the levels of each categorical covariate: one row a component."""
        found = {}
        for i in self.layout.discrete:
            name, levels = self.layout.parts[i].level_names
            values = self.values.parts[i].levels
            found[name] = pd.DataFrame(values, index=self.components, columns=pd.Index(levels))
        return found

    def profiles(self) -> dict[str, pd.DataFrame]:
        """Parameters of each covariate with a density of its own: one row a component."""
        return {
            self.layout.parts[i].title: pd.DataFrame(
                self.values.parts[i].single, index=self.components
            )
            for i in self.layout.single
        }

    def _by_response(self, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
        if len(frames) == 1:
            return next(iter(frames.values()))
        if not frames:
            return pd.DataFrame(index=self.components)
        return pd.concat(frames, axis=1)
