"""The version, for the package, its build and what it writes."""

__version__ = "0.1.0"
