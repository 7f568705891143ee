"""The library's models in NumPyro programs."""
