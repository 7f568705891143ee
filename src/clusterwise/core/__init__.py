"""Protocols and array plumbing; imports nothing else of the package."""
