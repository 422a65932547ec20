"""README's artwork, docs/: made from what the package makes."""
