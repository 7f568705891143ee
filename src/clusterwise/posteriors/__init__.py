"""Conjugate distributions over the parameters of a block."""
