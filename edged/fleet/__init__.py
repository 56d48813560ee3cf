"""Configuration: what the operator writes, checked. Drops and generations join here."""
