"""The command line: `clusterwise fit`, `predict`, `simulate` and `demo`."""

from clusterwise.cli.app import main

__all__ = ["main"]
