"""Talking to child processes: frames, channels, and the children themselves. Knows nothing of what frames mean."""
