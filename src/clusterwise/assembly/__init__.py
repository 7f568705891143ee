"""From a model and a table to blocks, priors and rows in standard units, and back."""
