"""Draws as an xarray DataTree in ArviZ's layout."""

from __future__ import annotations

import numpy as np
import xarray as xr

from clusterwise.assembly.layout import Layout
from clusterwise.assembly.units import Values


def posterior_tree(
    layout: Layout,
    values: Values,
    log_density: np.ndarray | None,
    sample_stats: dict[str, np.ndarray],
    engine: str,
) -> xr.DataTree:
    """Posterior group, and the log density of every draw where the engine kept it.

    Parameters
    ----------
    layout
        Names of terms and columns.
    values
        Draws in data units, with leading axes (chain, draw).
    log_density
        (chain, draw) log likelihood, or None.
    sample_stats
        What the sampler noted of each draw, by ArviZ's names.
    engine
        Name of the engine, kept as an attribute.
    """
    base = ("chain", "draw")
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "weights": ((*base, "component"), values.weights)
    }
    if not np.all(values.concentration == values.concentration.flat[0]):
        variables["concentration"] = (base, values.concentration)
    chains, draws, k = values.weights.shape
    coords: dict[str, object] = {
        "chain": np.arange(chains),
        "draw": np.arange(draws),
        "component": np.arange(k),
    }
    parts = list(zip(layout.parts, values.parts, strict=True))
    responses = [(part, value) for part, value in parts if part.is_response]
    for part, value in responses:
        prefix = "" if len(responses) == 1 else f"{part.names[0]}_"
        coef = f"{prefix}coef"
        variables[f"{prefix}coefficients"] = (
            (*base, "component", coef),
            value.coefficients[..., 0],
        )
        variables[f"{prefix}sigma"] = (
            (*base, "component"),
            np.sqrt(value.covariance[..., 0, 0]),
        )
        coords[coef] = list(part.terms)
    densities = [(part, value) for part, value in parts if not part.is_response]
    for number, (part, value) in enumerate(densities):
        suffix = "" if len(densities) == 1 else f"_{number}"
        dim, other = f"covariate{suffix}", f"covariate{suffix}_bis"
        variables[f"means{suffix}"] = ((*base, "component", dim), value.coefficients[..., 0, :])
        variables[f"covariance{suffix}"] = ((*base, "component", dim, other), value.covariance)
        coords[dim] = coords[other] = [part.names[j] for j in part.kept_names]
    attributes = {"inference_library": "clusterwise", "engine": engine}
    groups = {"posterior": xr.Dataset(variables, coords=coords, attrs=attributes)}
    if log_density is not None:
        groups["sample_stats"] = xr.Dataset(
            {"log_likelihood": (base, log_density)}
            | {name: (base, value) for name, value in sample_stats.items()},
            coords={"chain": coords["chain"], "draw": coords["draw"]},
            attrs=attributes,
        )
    return xr.DataTree.from_dict(groups)
