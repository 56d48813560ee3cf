"""Sentences that training never saw: other templates, other vocabularies, and, in `unseen.txt`, other tools.

A room of its own: nothing here is read by `training/`, and `tests/bench/test_disjoint.py` holds the two apart.
"""
