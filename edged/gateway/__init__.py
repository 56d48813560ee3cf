"""The doors: who is calling, is it well-formed, and where does the answer go. Knows neither models nor engines."""
