"""Draws as an xarray DataTree in ArviZ's layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from clusterwise.assembly.layout import Layout, Part
from clusterwise.assembly.units import Values, in_data_units
from clusterwise.core.groups import first_rows
from clusterwise.core.product import Product
from clusterwise.inference.lazy import LazyDraws, lazy_dataset
from clusterwise.inference.rowdraws import RowDraws

_BASE = ("chain", "draw")
_ROW = "obs_id"
_GROUP = "group_id"
_RESERVED = frozenset((*_BASE, _ROW, _GROUP, "component"))
_JOINT = "rows"
_COMPUTED = ("log_likelihood", "posterior_predictive")
_MOST_NUMBERS = 50_000_000


def posterior_tree(
    layout: Layout,
    block: Product,
    draws: Any,
    *,
    engine: str,
    log_density: np.ndarray | None = None,
    sample_stats: dict[str, np.ndarray] | None = None,
    permutation: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    row_order: np.ndarray | None = None,
    why_no_rows: str = "",
) -> xr.DataTree:
    """Every group that the draws allow; those of rows are computed when they are first used.

    Parameters
    ----------
    layout
        Names and units of terms and columns.
    block
        The model over the layout's columns.
    draws
        Parameters in standard units, with leading axes (chain, draw).
    engine
        Name of the engine, kept as an attribute.
    log_density
        (chain, draw) log likelihood of all rows.
    sample_stats
        What the sampler noted of each draw, by ArviZ's names.
    permutation
        (chain, draw, component): the sampler's own number of each component.
    rows
        (n, columns + 1): all rows that were fitted, with their weights; None leaves their groups
        out.
    row_order
        (n,) the data's numbers of the rows, where they are sorted by groups.
    why_no_rows
        What the attributes then say.

    Returns
    -------
    xarray.DataTree
        Groups posterior; sample_stats; log_likelihood, posterior_predictive, observed_data and
        constant_data.
    """
    values = in_data_units(layout, draws)
    attrs = {"inference_library": "clusterwise", "engine": engine}
    posterior = _posterior(layout, values)
    base = {name: posterior.coords[name].to_numpy() for name in _BASE}
    groups = {"posterior": posterior.assign_attrs(attrs)}
    stats: dict[str, Any] = (
        {} if log_density is None else {"total_log_likelihood": (_BASE, log_density)}
    )
    stats |= {name: (_BASE, value) for name, value in (sample_stats or {}).items()}
    coords: dict[str, Any] = dict(base)
    if permutation is not None:
        stats["permutation"] = ((*_BASE, "component"), permutation)
        coords["component"] = posterior.coords["component"].to_numpy()
    if stats:
        groups["sample_stats"] = xr.Dataset(stats, coords, attrs)
    root = dict(attrs)
    if rows is None:
        root["groups_left_out"] = (
            f"log_likelihood, posterior_predictive, observed_data: {why_no_rows}"
        )
    else:
        groups |= _of_rows(layout, block, draws, rows, row_order, base, attrs)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), **groups})


def _posterior(layout: Layout, values: Values) -> xr.Dataset:
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "weights": ((*_BASE, "component"), values.weights)
    }
    if not np.all(values.concentration == values.concentration.flat[0]):
        variables["concentration"] = (_BASE, values.concentration)
    chains, draws, k = values.weights.shape
    coords: dict[str, object] = {
        "chain": np.arange(chains),
        "draw": np.arange(draws),
        "component": np.arange(k),
    }
    if layout.gate is not None and values.gates is not None:
        variables["gates"] = ((*_BASE, "component", "gate"), values.gates)
        coords["gate"] = list(layout.gate.terms)
    if values.sticks is not None:
        variables["stick"] = ((*_BASE, "component"), values.sticks)
    parts = list(zip(layout.parts, values.parts, strict=True))
    responses = [(part, value) for part, value in parts if part.is_response]
    for part, value in responses:
        prefix = "" if len(responses) == 1 else f"{_safe(part.title)}_"
        coef = f"{prefix}coef"
        dims: tuple[str, ...] = (*_BASE, "component", coef)
        slopes = value.coefficients[..., 0]
        if len(part.predictors) > 1:
            dims, slopes = (*dims, f"{prefix}predictor"), value.coefficients
            coords[f"{prefix}predictor"] = list(part.predictors)
        variables[f"{prefix}coefficients"] = (dims, slopes)
        pooled = (("mean", value.pooled_mean), ("sd", value.pooled_sd))
        for name, own in pooled:
            if own is not None:
                shown = own if len(part.predictors) > 1 else own[..., 0]
                variables[f"{prefix}coefficients_{name}"] = ((*_BASE, *dims[3:]), shown)
        for name, own in value.dispersion.items():
            variables[f"{prefix}{name}"] = ((*_BASE, "component"), own)
        coords[coef] = list(part.terms)
    densities = [(layout.parts[i], values.parts[i]) for i in layout.gaussian]
    for i in layout.discrete:
        name, levels = layout.parts[i].level_names
        own = values.parts[i].levels
        assert own is not None
        dim = f"level_of_{_safe(name)}"
        variables[f"probability_of_{_safe(name)}"] = ((*_BASE, "component", dim), own)
        coords[dim] = levels
    for i in layout.single:
        for name, own in (values.parts[i].single or {}).items():
            variable = f"{name}_of_{_safe(layout.parts[i].title)}"
            variables[variable] = ((*_BASE, "component"), own)
    for number, (part, value) in enumerate(densities):
        suffix = "" if len(densities) == 1 else f"_{number}"
        dim, other = f"covariate{suffix}", f"covariate{suffix}_bis"
        variables[f"means{suffix}"] = ((*_BASE, "component", dim), value.coefficients[..., 0, :])
        assert value.covariance is not None
        variables[f"covariance{suffix}"] = ((*_BASE, "component", dim, other), value.covariance)
        coords[dim] = coords[other] = [part.names[j] for j in part.kept_names]
    return xr.Dataset(variables, coords=coords)


def _of_rows(
    layout: Layout,
    block: Product,
    draws: Any,
    rows: np.ndarray,
    row_order: np.ndarray | None,
    base: dict[str, np.ndarray],
    attrs: dict[str, str],
) -> dict[str, xr.Dataset]:
    """Groups with one value a row; rows of weight zero are left out.

    The log likelihood has one a group, where rows share clusters.
    """
    kept = np.flatnonzero(rows[:, -1] > 0)
    standard, weight = rows[kept, :-1], rows[kept, -1]
    flat = jax.tree.map(lambda a: np.reshape(a, (-1, *np.shape(a)[2:])), draws)
    of_rows = RowDraws(block, layout, flat, standard)
    number = kept if row_order is None else row_order[kept]
    dims, coords = (*_BASE, _ROW), {**base, _ROW: number}
    units, unit_coords = dims, coords
    if layout.groups is not None:
        n_groups = len(first_rows(layout.group_columns, standard))
        units, unit_coords = (*_BASE, _GROUP), {**base, _GROUP: np.arange(n_groups)}

    def lazy(compute: Any, n: int = kept.size) -> LazyDraws:
        shape = (base["chain"].size, base["draw"].size, n)
        return LazyDraws(shape, compute, of_rows.draws_at_a_time())

    modelled = {
        name: (i, j)
        for i, part in enumerate(layout.parts)
        if i not in layout.discrete
        for j, name in enumerate(_modelled(part))
    }
    responses = {name: at for name, at in modelled.items() if layout.parts[at[0]].is_response}
    joint = bool(layout.densities)
    predicted = responses or modelled
    name = next(iter(responses)) if len(responses) == 1 and not joint else _JOINT
    what = (
        "log p(covariates, responses)" if joint and responses else "log p(responses | regressors)"
    )
    if not responses:
        what = "log p(covariates)"
    unit = "row" if layout.groups is None else "group of rows"
    likelihood_attrs = {
        **attrs,
        "density": f"{what} of each {unit}, its cluster summed out, on the data's scale; "
        f"one copy of each {unit}, whatever its weight",
    }
    given = "responses given the covariates of the row" if responses else "covariates"
    observed = {n: (_ROW, _observed(layout, standard, *at)) for n, at in modelled.items()}
    groups = {
        "posterior_predictive": lazy_dataset(
            {
                n: lazy(partial(of_rows.replicate, part=i, column=j))
                for n, (i, j) in predicted.items()
            },
            dims,
            coords,
            {**attrs, "replicates": f"{given}, a new cluster being drawn for each"},
        ),
        "log_likelihood": lazy_dataset(
            {name: lazy(of_rows.log_density, unit_coords[units[-1]].size)},
            units,
            unit_coords,
            likelihood_attrs,
        ),
        "observed_data": xr.Dataset(
            {n: observed[n] for n in predicted}, coords={_ROW: number}, attrs=attrs
        ),
    }
    constant = {n: observed[n] for n in modelled if n not in predicted}
    if np.any(weight != 1):
        constant["sample_weight"] = (_ROW, weight)
    if constant:
        groups["constant_data"] = xr.Dataset(constant, coords={_ROW: number}, attrs=attrs)
    return groups


def _modelled(part: Part) -> list[str]:
    """Names of what a part models: a response by all its columns is one."""
    if part.is_response or part.parameter_names:
        return [_safe(part.title)]
    return [_safe(part.names[place]) for place in part.kept_names]


def _observed(layout: Layout, rows: np.ndarray, part: int, column: int) -> np.ndarray:
    if layout.parts[part].is_response:
        return layout.response_values(rows, part)
    place = layout.parts[part].responses[column]
    return rows[:, place] * layout.scale_of(place) + layout.shift_of(place)


def _safe(name: str) -> str:
    """A name that netCDF and xarray's paths allow, and that is not a dimension's."""
    name = name.replace("/", "_")
    return f"{name}_" if name in _RESERVED else name


def write_posterior(tree: xr.DataTree, path: Path) -> None:
    """Write draws as netCDF, without the groups that would make the file huge.

    Parameters
    ----------
    tree
        As `posterior_tree` makes it.
    path
        The file.

    Raises
    ------
    OSError
        Where it cannot be written.
    """
    sizes = tree["log_likelihood"].sizes if "log_likelihood" in tree.children else {}
    numbers = int(np.prod(list(sizes.values()), dtype=float)) if sizes else 0
    if numbers > _MOST_NUMBERS:
        tree = xr.DataTree.from_dict(
            {n: node.to_dataset() for n, node in tree.subtree_with_keys if n not in _COMPUTED}
        )
        tree.attrs["groups_left_out"] = (
            f"{', '.join(_COMPUTED)}: {numbers} numbers each, and no more than {_MOST_NUMBERS} are "
            "written; clusterwise.load computes them"
        )
    tree.to_netcdf(path, engine="h5netcdf")
