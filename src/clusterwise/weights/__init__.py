"""Mixing weights."""
