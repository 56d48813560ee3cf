"""Tools: what plugins are there, their child processes, and the fence around each. Knows nothing of models."""
