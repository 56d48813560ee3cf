"""What the device tells: hardware, memory pressure, power. Nothing is decided here."""
