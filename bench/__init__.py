"""Benches, one module a subject, and what they need beside them. No part of `make test`."""
