"""Measurements: of the engine (``benchmark``) and of the explorer (``soak``)."""
