"""scikit-learn estimators over `Model`."""
