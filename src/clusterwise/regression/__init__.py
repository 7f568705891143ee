"""Blocks made of a response and its coefficients."""
