"""Inference engines: one shared step, few differing parts."""
