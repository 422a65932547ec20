"""Procedural painters of the style pictures."""
