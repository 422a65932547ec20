"""What people ask for next: which colours, where, and of several styles."""
