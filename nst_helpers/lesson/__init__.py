"""What only the notebooks need: exercises, budgets, the paper's pictures."""
