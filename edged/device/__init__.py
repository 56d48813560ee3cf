"""What the device tells: hardware, memory pressure, power. Nothing is done about it here."""
