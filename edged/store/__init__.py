"""What must survive a crash: one SQLite file, one writer. Knows nothing of tokens, doors or models."""
