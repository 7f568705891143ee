"""A fit as one self-contained HTML page."""
