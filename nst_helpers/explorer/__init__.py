"""Sliders over a run in the background."""
