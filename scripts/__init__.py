"""What made, measures and runs what is shipped: ``python -m scripts.NAME``, from the clone."""
