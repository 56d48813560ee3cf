"""edged: an on-device agent runtime daemon. `docs/architecture.md` is the map of the rooms."""

__version__ = "0.1.0"
