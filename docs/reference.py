"""Writes the reference when the site is built: every public name, in the group of its module.

A name that `clusterwise/__init__.py` exports is in the reference without being listed anywhere;
one from a module that no group has is an error that says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import clusterwise

ROOT = Path(__file__).parents[1]
COPIED = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


class Group(NamedTuple):
    """One page of the reference.

    `homes` are modules and packages below `clusterwise` whose public names it has; `modules` are
    public themselves.
    """

    title: str
    homes: tuple[str, ...]
    about: str
    modules: tuple[str, ...] = ()


GROUPS = {
    "model": Group("Model", ("model", "io"), "What is fitted, and fits read from disk.", ("data",)),
    "families": Group("Families", ("responses",), "Responses, for `Model(family=...)`."),
    "covariates": Group(
        "Covariates", ("covariates",), "Densities of columns, for `Model(covariates=[...])`."
    ),
    "weights": Group("Weights", ("weights",), "Mixing weights, for `Model(weights=...)`."),
    "priors": Group(
        "Priors",
        ("posteriors", "regression", "coefficients"),
        "For `Model(prior={...})`, and of coefficients; on the data's own scale.",
    ),
    "engines": Group("Engines", ("engines",), "For `Model.fit(engine=...)`."),
    "fit": Group("Fit", ("fit", "inference", "bootstrap", "refit", "streaming"), "Its answers."),
    "selection": Group("Selection", ("selection",), "How many clusters, and which model."),
    "estimators": Group("Estimators", ("estimators",), "The model as scikit-learn has it."),
    "numpyro": Group("NumPyro", ("interop",), "Models and mixtures inside NumPyro programs."),
    "plots": Group(
        "Plots",
        (),
        "Pictures of a fit, as `fit.plot`; see [Plots](../plots.md).",
        ("plots.accessor.FitPlots", "plots.canvas.new_axes", "plots.canvas.figure_of"),
    ),
    "errors": Group("Errors", ("core",), "What is raised; a message says what to do."),
}


def grouped() -> dict[str, list[str]]:
    """Public names by group."""
    found: dict[str, list[str]] = {key: [] for key in GROUPS}
    of_home = {home: key for key, group in GROUPS.items() for home in group.homes}
    for name, module in clusterwise._HOME_OF.items():
        home = module.split(".")[0]
        if home not in of_home:
            raise PluginError(f"docs/reference.py: no group of GROUPS has clusterwise.{home}.")
        found[of_home[home]].append(name)
    # Classes before functions.
    return {
        key: sorted(names, key=lambda name: (name[0].islower(), name.lower()))
        for key, names in found.items()
    }


def pages() -> dict[str, str]:
    """The reference's pages by the places that they have in the site."""
    names = grouped()
    made, rows = {}, []
    for key, group in GROUPS.items():
        listed = [f"clusterwise.{name}" for name in (*names[key], *group.modules)]
        blocks = "\n\n".join(f"::: {name}" for name in listed)
        made[f"reference/{key}.md"] = f"# {group.title}\n\n{group.about}\n\n{blocks}\n"
        links = ", ".join(f"[`{name.split('.')[-1]}`][{name}]" for name in listed)
        rows.append(f"| [{group.title}]({key}.md) | {links} |")
    table = "\n".join(["| | |", "| --- | --- |", *rows])
    about = "Everything public, as `import clusterwise as cw` has it; made from the docstrings."
    made["reference/index.md"] = f"# Reference\n\n{about}\n\n{table}\n"
    return made


def copied() -> dict[str, str]:
    """Pages that lie at the root of the repository."""
    return {
        f"development/{place}.md": (ROOT / name).read_text(encoding="utf-8")
        for place, name in COPIED.items()
    }


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages that are not files in `docs`."""
    for place, content in (pages() | copied()).items():
        files.append(File.generated(config, place, content=content))
    return files
