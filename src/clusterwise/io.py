"""Saved fits: a folder with `model.json` and `arrays.npz`; nothing in it can run code.

A sampled fit has its draws there in ArviZ's layout too, `posterior.nc`, which is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from clusterwise.assembly.build import Specification, make_prior
from clusterwise.assembly.layout import Column, Layout, Part, RawDesign, RawPart
from clusterwise.assembly.specify import settle
from clusterwise.core.arrays import constant
from clusterwise.core.errors import ClusterwiseError, FileError
from clusterwise.core.product_posterior import ProductParameters, ProductPosterior
from clusterwise.core.runtime import double_precision
from clusterwise.core.version import __version__
from clusterwise.covariates.bernoulli import BernoulliCovariates
from clusterwise.covariates.categorical import CategoricalCovariates
from clusterwise.covariates.family import FamilyCovariates, StudentTCovariates
from clusterwise.covariates.gaussian import GaussianCovariates
from clusterwise.covariates.poisson import PoissonCovariates
from clusterwise.fit import Fit
from clusterwise.frames.encoder import Encoder
from clusterwise.model import Model
from clusterwise.posteriors.specification import (
    Gamma,
    Normal,
    NormalInverseGamma,
    NormalInverseWishart,
)
from clusterwise.record import FitRecord
from clusterwise.regression.free import is_distribution
from clusterwise.regression.structure import COEFFICIENTS, INDEPENDENT, AbstractCoefficients
from clusterwise.responses.registry import FAMILIES
from clusterwise.weights.gated import Gated, LogitStickBreaking
from clusterwise.weights.specification import (
    Dirichlet,
    DirichletProcess,
    KnownWeights,
    PitmanYor,
)

SCHEMA = 1
_JSON = "model.json"
_ARRAYS = "arrays.npz"
_POSTERIOR = "posterior.nc"
_MARK = "clusterwise fit"

# Only these are made from what a file says.
_SPECIFICATIONS = {
    kind.__name__: kind
    for kind in (
        BernoulliCovariates,
        CategoricalCovariates,
        Dirichlet,
        DirichletProcess,
        FamilyCovariates,
        Gamma,
        Gated,
        GaussianCovariates,
        KnownWeights,
        LogitStickBreaking,
        Normal,
        NormalInverseGamma,
        NormalInverseWishart,
        PitmanYor,
        PoissonCovariates,
        StudentTCovariates,
        *FAMILIES.values(),
        *COEFFICIENTS.values(),
    )
}
_NUMPYRO = "numpyro"
_STATS = "sample_stats."
# Of sampled fits; the rows, since what is asked of draws needs them.
_DRAWN = ("log_density", "permutation", "rows", "row_order")
_PART_FIELDS = ("terms", "names", "regressors", "responses", "kept_terms", "kept_names", "shared")
_OF_MODEL = ("form", "coefficients")
_SCALARS = (
    "engine",
    "n_rows",
    "n_groups",
    "total_weight",
    "n_parameters",
    "log_likelihood",
    "objective",
    "entropy",
    "converged",
    "n_iter",
    "seconds",
)


def save(model: Model, record: FitRecord, path: str | os.PathLike[str]) -> None:
    """Write a fit to a folder, replacing one that holds a fit and nothing else."""
    folder = Path(path)
    _check_known(list(model_document(model).values()))
    _check_replaceable(folder)
    arrays = {"history": record.history, "order": record.order}
    arrays |= _flatten("parameters", record.parameters)
    arrays |= _flatten("moments", record.moments)
    if record.optima is not None:
        arrays |= _flatten("optima", record.optima)
    if record.posterior is not None:
        arrays |= _flatten("posterior", record.posterior)
    elif record.draws is not None:
        arrays |= _flatten("draws", record.draws)
    for name in _DRAWN:
        value = getattr(record, name)
        # Averages of weights that depend on the row need rows.
        kept = record.posterior is None or (name == "rows" and record.layout.gate is not None)
        if kept and value is not None:
            arrays[name] = value
    arrays |= {f"{_STATS}{name}": value for name, value in record.sample_stats.items()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".clusterwise-", dir=folder.parent))
    except OSError as error:
        raise FileError(f"Cannot write {str(folder)!r}: {error.strerror}.") from error
    try:
        np.savez(scratch / _ARRAYS, allow_pickle=False, **arrays)
        digest = hashlib.sha256((scratch / _ARRAYS).read_bytes()).hexdigest()
        text = json.dumps(_document(model, record, digest), indent=1)
        (scratch / _JSON).write_text(text, encoding="utf-8")
        if record.draws is not None and record.posterior is None:
            from clusterwise.inference.posterior import write_posterior

            write_posterior(record.tree(), scratch / _POSTERIOR)
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise FileError(f"Cannot write {str(folder)!r}: {error.strerror}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` or `clusterwise fit` wrote.

    Parameters
    ----------
    path
        The folder of the fit.

    Returns
    -------
    Fit

    Raises
    ------
    FileError
        Where the folder is not a fit, is damaged, or was written by a newer version.

    Examples
    --------
    >>> import tempfile, numpy as np, clusterwise as cw
    >>> data = {"x": np.arange(20.0), "y": np.arange(20.0) % 7}
    >>> fit = cw.Model("y ~ x", n_components=1).fit(data, engine="em", random_state=0)
    >>> folder = tempfile.mkdtemp()
    >>> fit.save(folder)
    >>> bool(cw.load(folder).log_likelihood == fit.log_likelihood)
    True
    """
    folder = Path(path)
    if not (folder / _JSON).is_file():
        raise FileError(
            f"{str(folder)!r} holds no saved fit (no {_JSON}); give the folder that was saved, or "
            "the 'model' folder of a command-line fit."
        )
    try:
        document = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        if document["format"] != _MARK:
            raise KeyError("format")
        schema = int(document["schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{str(folder / _JSON)!r} is damaged; fit and save again.") from error
    if schema > SCHEMA:
        raise FileError(
            f"{str(folder)!r} was saved by a newer version (schema {schema}; this one reads up to "
            f"{SCHEMA}); upgrade clusterwise."
        )
    try:
        content = (folder / _ARRAYS).read_bytes()
        if hashlib.sha256(content).hexdigest() != document["arrays_sha256"]:
            raise ValueError("checksum")
        with np.load(folder / _ARRAYS, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        model = _model(document["model"])
        return Fit(model, _record(model, document, arrays))
    except (OSError, KeyError, TypeError, ValueError, IndexError, zipfile.BadZipFile) as error:
        if isinstance(error, ClusterwiseError) and not isinstance(error, FileError):
            raise FileError(f"{str(folder)!r} is damaged: {error}") from error
        raise FileError(f"{str(folder)!r} is damaged or incomplete; fit and save again.") from error


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileError(f"{str(folder)!r} exists and is not a folder; choose another path.")
    names = {entry.name for entry in folder.iterdir()}
    if names and names - {_POSTERIOR} != {_JSON, _ARRAYS}:
        raise FileError(
            f"{str(folder)!r} exists and is not a saved fit; choose another path or empty it."
        )


def _document(model: Model, record: FitRecord, digest: str) -> dict[str, Any]:
    return {
        "format": _MARK,
        "schema": SCHEMA,
        "version": __version__,
        "arrays_sha256": digest,
        "model": model_document(model),
        "encoder": record.encoder.to_dict(),
        "design": record.design._asdict(),
        "layout": {
            "raw_names": record.layout.raw_names,
            "columns": record.layout.columns,
            "parts": [_part_document(part) for part in record.layout.parts],
            "gate": None if record.layout.gate is None else _part_document(record.layout.gate),
        },
        "restarts": record.restarts,
        "notes": record.notes,
        **{name: getattr(record, name) for name in _SCALARS},
    }


def _part_document(part: Part) -> dict[str, Any]:
    """A part without what the model has."""
    return {f.name: getattr(part, f.name) for f in fields(part) if f.name not in _OF_MODEL}


def model_document(model: Model) -> dict[str, Any]:
    """What a model says, as JSON values; the same in every process."""
    return {f.name: _encode(getattr(model, f.name)) for f in fields(model)}


def _encode(value: Any) -> Any:
    """Specifications as {"kind": ..., arguments}, arrays as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        arguments = {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
        return {"kind": type(value).__name__, **arguments}
    if isinstance(value, dict):
        return {"kind": "dict", "items": {key: _encode(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if is_distribution(value):
        from clusterwise.interop.storage import encode_distribution

        return {"kind": _NUMPYRO, **encode_distribution(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def _check_known(document: Any) -> None:
    """Refuse specifications that could not be read back."""
    if isinstance(document, list):
        for item in document:
            _check_known(item)
    elif isinstance(document, dict):
        kind = document["kind"]
        if kind == "dict":
            _check_known(list(document["items"].values()))
        elif kind in _SPECIFICATIONS:
            _check_known([item for key, item in document.items() if key != "kind"])
        elif kind != _NUMPYRO:
            raise FileError(
                f"A fit with {kind} cannot be saved: cw.load makes no class that is not listed in "
                "clusterwise. A family joins the list by its entry in "
                "clusterwise/responses/registry.py."
            )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    rest = dict(value)
    kind = rest.pop("kind")
    if kind == "dict":
        return {key: _decode(item) for key, item in rest["items"].items()}
    if kind == _NUMPYRO:
        from clusterwise.interop.storage import decode_distribution

        return decode_distribution(**rest)
    return _SPECIFICATIONS[kind](**{key: _decode(item) for key, item in rest.items()})


def _model(document: dict[str, Any]) -> Model:
    return Model(**{key: _decode(value) for key, value in document.items()})


def _record(model: Model, document: dict[str, Any], arrays: dict[str, np.ndarray]) -> FitRecord:
    encoder = Encoder.from_dict(document["encoder"])
    spec = settle(model.specification(), encoder)
    saved = document["layout"]
    layout = Layout(
        tuple(saved["raw_names"]),
        tuple(Column(int(raw), float(a), float(b)) for raw, a, b in saved["columns"]),
        tuple(
            _part(*one) for one in zip(saved["parts"], spec.forms, spec.coefficients, strict=True)
        ),
        model.groups,
        None if saved.get("gate") is None else _part(saved["gate"], spec.weights),
    )
    design = document["design"]
    kinds = _kinds(spec, layout)
    return FitRecord(
        encoder=encoder,
        design=RawDesign(
            tuple(design["names"]),
            tuple(_raw_part(*part) for part in design["parts"]),
            None if design.get("gate") is None else _raw_part(*design["gate"]),
        ),
        layout=layout,
        parameters=_parameters("parameters", kinds, arrays),
        moments=_tree("moments", kinds.moments, arrays),
        draws=_parameters("draws", kinds, arrays) if "draws.0.0" in arrays else None,
        **{name: arrays.get(name) for name in _DRAWN},
        sample_stats={
            name.removeprefix(_STATS): value
            for name, value in arrays.items()
            if name.startswith(_STATS)
        },
        posterior=ProductPosterior(_tree("posterior", kinds.posterior, arrays))
        if "posterior.0.0" in arrays
        else None,
        order=arrays["order"],
        history=arrays["history"],
        restarts=document["restarts"],
        optima=_parameters("optima", kinds, arrays) if "optima.0.0" in arrays else None,
        notes=tuple(document["notes"]),
        # Fits of earlier versions have no groups.
        **{name: document[name] for name in _SCALARS if name != "n_groups"},
        n_groups=document.get("n_groups"),
    )


def _part(
    saved: dict[str, Any], form: Any, coefficients: AbstractCoefficients = INDEPENDENT
) -> Part:
    return Part(
        kind=str(saved["kind"]),
        **{name: tuple(saved.get(name, ())) for name in _PART_FIELDS},
        shared_groups=tuple(map(tuple, saved.get("shared_groups", ()))),
        offset=saved.get("offset"),
        trials=saved.get("trials"),
        form=form,
        coefficients=coefficients,
    )


def _raw_part(kind: str, terms: Any, names: Any, shifted: Any, *rest: Any) -> RawPart:
    return RawPart(kind, tuple(terms), tuple(names), bool(shifted), *rest)


def _flatten(name: str, tree: Any) -> dict[str, np.ndarray]:
    """Arrays of each part in order of the fields."""
    parts = tree if isinstance(tree, tuple) else tree.parts
    return {
        f"{name}.{i}.{j}": np.asarray(leaf)
        for i, part in enumerate(parts)
        for j, leaf in enumerate(jax.tree.leaves(part))
    }


class _Kinds(NamedTuple):
    """Parts of a model's posterior, parameters and moments, for their structure alone."""

    posterior: tuple[Any, ...]
    parameters: tuple[Any, ...]
    moments: tuple[Any, ...]


@double_precision
def _kinds(spec: Specification, layout: Layout) -> _Kinds:
    prior = make_prior(spec, layout, np.eye(layout.n_columns))
    posterior, mode, moments = jax.eval_shape(
        lambda: (prior.as_posterior(), prior.mode(), prior.mode().moments())
    )
    return _Kinds(posterior.parts, mode.parts, moments)


def _tree(name: str, kinds: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Arrays of each part, in the places of a part of that kind."""
    found = []
    for i, kind in enumerate(kinds):
        leaves, structure = jax.tree.flatten(kind)
        own = [constant(arrays[f"{name}.{i}.{j}"]) for j in range(len(leaves))]
        found.append(jax.tree.unflatten(structure, own))
    return tuple(found)


def _parameters(name: str, kinds: _Kinds, arrays: dict[str, np.ndarray]) -> ProductParameters:
    return ProductParameters(_tree(name, kinds.parameters, arrays))
