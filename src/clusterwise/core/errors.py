"""Errors and warnings of the package; every message says what to do next."""

__all__ = [
    "ClusterwiseError",
    "ClusterwiseWarning",
    "DataError",
    "FileError",
    "FormulaError",
    "OptionError",
]


class ClusterwiseError(ValueError):
    """Base of every error that the package raises on purpose."""


class DataError(ClusterwiseError):
    """Raised when a table's columns or values cannot be used."""


class FormulaError(ClusterwiseError):
    """Raised when a formula cannot be read or asks for something not allowed."""


class OptionError(ClusterwiseError):
    """Raised when an option of a model, an engine or a command has no meaning."""


class FileError(ClusterwiseError):
    """Raised when a file is missing, damaged or of an unknown kind."""


class ClusterwiseWarning(UserWarning):
    """Issued when a result needs a second look."""
