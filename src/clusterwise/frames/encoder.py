"""The encoder: tables to float64 arrays, the same way in training and in prediction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from clusterwise.core.errors import ClusterwiseError, DataError, FileError, OptionError
from clusterwise.frames.columns import Level, Problems, read_levels, read_numbers
from clusterwise.frames.design import Design, Piece, build_design, factor_levels
from clusterwise.frames.expression import Factor
from clusterwise.frames.formula import Formula, parse
from clusterwise.frames.scan import Scan, Variable
from clusterwise.frames.table import Table, check_columns

__all__ = ["Encoder"]

FORMAT = 1


class Encoder:
    """Turns tables into arrays; made by `Encoder.fit` or `Encoder.from_dict`.

    Parameters
    ----------
    formulas : mapping of str to Formula
        The right side of every design.
    variables : mapping of str to Variable
        What is known of each column that they need.
    n_rows : int
        Rows of the table that it was fitted to.
    missing : mapping of str to int
        How many values of each column were missing there.

    Examples
    --------
    >>> from clusterwise.frames.table import open_table
    >>> table = open_table({"x": [1.0, 2.0], "g": ["a", "b"]})
    >>> encoder = Encoder.fit(table, {"regressors": "x + g"})
    >>> encoder.columns("regressors")
    ('Intercept', 'x', 'g[T.b]')
    """

    def __init__(
        self,
        formulas: Mapping[str, Formula],
        variables: Mapping[str, Variable],
        n_rows: int,
        missing: Mapping[str, int] | None = None,
    ) -> None:
        self.n_rows = n_rows
        self.missing = dict(missing or {})
        self._variables = dict(variables)
        self._designs = {name: build_design(f, variables) for name, f in formulas.items()}

    @classmethod
    def fit(
        cls,
        table: Table,
        designs: Mapping[str, str],
        *,
        incomplete: Collection[str] = (),
        rows: int = 65_536,
    ) -> Encoder:
        """Find the kinds and levels of all columns in one pass.

        Parameters
        ----------
        table : Table
            The rows.
        designs : mapping of str to str
            For each design a right side, such as ``"x1 + g"`` or ``"0 + y"``.
        incomplete : collection of str, optional
            The designs that may have missing values.
        rows : int, default 65536
            Rows to read at a time.

        Returns
        -------
        Encoder
            The fitted encoder.

        Raises
        ------
        DataError
            If a column is missing or holds values that cannot be used.
        FormulaError
            If a right side cannot be read.
        """
        formulas = {
            name: parse(right, response=False, columns=table.names)
            for name, right in designs.items()
        }
        variables = list(dict.fromkeys(v for f in formulas.values() for v in f.variables))
        check_columns(variables, table.names)
        factors = _factors(formulas.values())
        may_miss = set(variables) - _complete(formulas, incomplete)
        scans = {name: Scan(name, factors, name in may_miss) for name in variables}
        expressions = [factor for factor in factors if factor.kind == "expression"]
        problems, n_rows = Problems(), 0
        for frame in table.batches(variables, rows):
            numbers = {
                name: values
                for name, scan in scans.items()
                if (values := scan.update(_series(frame, name), problems, n_rows)) is not None
            }
            for factor in expressions:
                _evaluate(factor, numbers, problems, n_rows)
            n_rows += len(frame)
        if n_rows == 0:
            raise DataError("the table has no rows")
        problems.check()
        known = {name: scan.result() for name, scan in scans.items()}
        return cls(formulas, known, n_rows, {name: scan.missing for name, scan in scans.items()})

    @property
    def designs(self) -> tuple[str, ...]:
        """Names of the designs."""
        return tuple(self._designs)

    def columns(self, design: str) -> tuple[str, ...]:
        """Names of a design's columns, as formulaic gives them.

        Parameters
        ----------
        design : str
            Name of the design.

        Returns
        -------
        tuple of str
            Such as ``("Intercept", "x", "g[T.b]", "x:g[T.b]")``.
        """
        return self._design(design).columns

    def terms(self, design: str) -> tuple[str, ...]:
        """For each column of a design, the term of the formula that it comes from.

        Parameters
        ----------
        design : str
            Name of the design.

        Returns
        -------
        tuple of str
            Such as ``("1", "x", "g", "x:g")``.
        """
        return self._design(design).terms

    def products(self, design: str) -> tuple[tuple[Piece, ...], ...]:
        """For each column of a design the operands that it is the product of.

        Parameters
        ----------
        design : str
            Name of the design.

        Returns
        -------
        tuple of tuple
            Operands, a categorical one with the position of a level; none for the intercept.
        """
        return self._design(design).products

    def variables(self, design: str) -> tuple[str, ...]:
        """Columns of the data that a design needs.

        Parameters
        ----------
        design : str
            Name of the design.

        Returns
        -------
        tuple of str
            In order of appearance.
        """
        return self._design(design).formula.variables

    def variables_of(self, design: str, column: int) -> tuple[str, ...]:
        """Columns of the data that one column of a design needs.

        Parameters
        ----------
        design : str
            Name of the design.
        column : int
            Place of its column.

        Returns
        -------
        tuple of str
            In order of appearance.
        """
        product = self._design(design).products[column]
        return tuple(dict.fromkeys(name for factor, _ in product for name in factor.variables))

    def levels(self, variable: str) -> tuple[Level, ...] | None:
        """Levels of a categorical column.

        Parameters
        ----------
        variable : str
            Name of the column.

        Returns
        -------
        tuple or None
            None for a numeric column that is not used in ``C(...)``.
        """
        check_columns([variable], list(self._variables))
        return self._variables[variable].levels

    def encode(
        self,
        frame: pd.DataFrame,
        designs: Iterable[str] | None = None,
        *,
        incomplete: Collection[str] = (),
        first_row: int = 0,
    ) -> dict[str, np.ndarray]:
        """Turn rows into arrays.

        Parameters
        ----------
        frame : DataFrame
            The rows; it needs the columns of ``designs`` only.
        designs : iterable of str, optional
            The designs to compute; all of them by default.
        incomplete : collection of str, optional
            The designs that may have missing values, which are NaN then.
        first_row : int, default 0
            Number of the frame's first row in its table, for error messages.

        Returns
        -------
        dict of str to ndarray
            For each design a float64 array, rows by columns, C-contiguous.

        Raises
        ------
        DataError
            If a value is missing, infinite, of the wrong kind or a level never seen in training.
        """
        wanted = {
            name: self._design(name) for name in (self.designs if designs is None else designs)
        }
        factors = _factors(design.formula for design in wanted.values())
        complete = _complete({name: own.formula for name, own in wanted.items()}, incomplete)
        problems = Problems()
        values: dict[Factor, np.ndarray] = {}
        numbers: dict[str, np.ndarray] = {}
        check_columns((v for f in factors for v in f.variables), list(frame.columns))
        for factor in factors:
            known = factor_levels(factor, self._variables)
            if known is not None:
                name = factor.variables[0]
                lost = name not in complete
                values[factor] = _codes(frame, name, known, problems, first_row, lost)
                continue
            for name in factor.variables:
                if name not in numbers:
                    numbers[name] = read_numbers(
                        _series(frame, name),
                        name,
                        problems,
                        first_row=first_row,
                        may_miss=name not in complete,
                    )
            values[factor] = _evaluate(factor, numbers, problems, first_row)
        problems.check()
        return {name: design.fill(values, len(frame)) for name, design in wanted.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything that `from_dict` needs, as plain JSON values.

        Returns
        -------
        dict
            Formulas, column names, kinds and levels of variables, and the number of rows.
        """
        return {
            "format": FORMAT,
            "n_rows": self.n_rows,
            "missing": self.missing,
            "variables": {name: v.to_dict() for name, v in self._variables.items()},
            "designs": {
                name: {"formula": design.formula.right, "columns": list(design.columns)}
                for name, design in self._designs.items()
            },
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Encoder:
        """Rebuild an encoder; its formulas are checked as if a stranger had written them.

        Parameters
        ----------
        saved : mapping
            What `to_dict` returned.

        Returns
        -------
        Encoder
            An encoder with the same output.

        Raises
        ------
        FileError
            If ``saved`` is anything else.
        """
        try:
            if saved["format"] != FORMAT:
                raise ValueError(f"format {saved['format']!r} is not {FORMAT}")
            n_rows = saved["n_rows"]
            variables = {name: Variable.from_dict(v) for name, v in saved["variables"].items()}
            if type(n_rows) is not int or n_rows < 1:
                raise ValueError("n_rows is not a number of rows")
            designs = saved["designs"]
            formulas = {n: parse(d["formula"], response=False) for n, d in designs.items()}
            # Version 0.1 refused missing values.
            missing = {str(name): int(n) for name, n in saved.get("missing", {}).items()}
            encoder = cls(formulas, variables, n_rows, missing)
            for name in encoder.designs:
                if list(encoder.columns(name)) != designs[name]["columns"]:
                    raise ValueError(f"the columns of {name!r} do not fit its formula")
        except (ClusterwiseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileError(
                "the saved encoder is damaged or from another version; "
                f"save the fit again ({error})"
            ) from error
        return encoder

    def _design(self, name: str) -> Design:
        if name not in self._designs:
            raise OptionError(f"there is no design {name!r}; there are {', '.join(self._designs)}")
        return self._designs[name]


def _factors(formulas: Iterable[Formula]) -> tuple[Factor, ...]:
    return tuple(dict.fromkeys(f for formula in formulas for term in formula.terms for f in term))


def _complete(formulas: Mapping[str, Formula], incomplete: Collection[str]) -> set[str]:
    """Columns of the data that may have no missing values."""
    return {v for name, own in formulas.items() if name not in incomplete for v in own.variables}


def _series(frame: pd.DataFrame, name: str) -> pd.Series:
    return cast(pd.Series, frame[name])


def _evaluate(
    factor: Factor,
    numbers: Mapping[str, np.ndarray],
    problems: Problems,
    first_row: int,
) -> np.ndarray:
    """Values of a numeric operand; notes rows where only the arithmetic fails."""
    inputs = {name: numbers[name] for name in factor.variables}
    value = factor.evaluate(inputs)
    with np.errstate(all="ignore"):
        finite = factor.kind == "column" or np.isfinite(value.sum())
        known = all(np.isfinite(column.sum()) for column in inputs.values())
    if not known and factor.kind != "column":
        # A comparison with a missing value would be false.
        lost = np.logical_or.reduce([np.isnan(column) for column in inputs.values()])
        value = np.where(lost, np.nan, value)
    if not finite:
        good = np.logical_and.reduce([np.isfinite(column) for column in inputs.values()])
        rows = np.flatnonzero(good & ~np.isfinite(value))
        advice = "drop these rows or change the formula"
        if len(rows):
            at = ", ".join(f"{name} = {column[rows[0]]:g}" for name, column in inputs.items())
            advice = f"in the first of them {at}; {advice}"
        problems.add(
            f"the term {factor.name!r}", "is not a finite number", advice, rows + first_row
        )
    return value


def _codes(
    frame: pd.DataFrame,
    name: str,
    known: Sequence[Level],
    problems: Problems,
    first_row: int,
    may_miss: bool,
) -> np.ndarray:
    """Positions of a column's values among the levels seen in training, -2 where missing."""
    codes, found = read_levels(
        _series(frame, name), name, problems, first_row=first_row, may_miss=may_miss
    )
    places = {level: place for place, level in enumerate(known)}
    # The last entry serves the code -1 of a missing value.
    table = np.array([places.get(level, -1) for level in found] + [-2], dtype=np.intp)
    result = table[codes]
    unseen = np.flatnonzero(result == -1)
    if len(unseen):
        shown = ", ".join(repr(level) for level in known[:20]) + (
            ", ..." if len(known) > 20 else ""
        )
        what = f"has the level {found[codes[unseen[0]]]!r}, which was never seen in training,"
        problems.add(f"column {name!r}", what, f"the known levels are {shown}", unseen + first_row)
    return result
