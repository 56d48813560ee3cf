"""Phrases and what they mean for each kind of parameter, the clock at half past two on Wednesday, the 11th of March 2026."""
