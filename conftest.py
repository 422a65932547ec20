"""Notebooks run at a small budget under pytest; nbval's kernels inherit the environment."""

import os

os.environ.setdefault("NST_BUDGET", "quick")
