"""How it is made fast and kept in memory; nothing here changes a result."""
