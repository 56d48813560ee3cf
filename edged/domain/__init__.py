"""Words that every room shares: plain data, errors and ports. No I/O, no clock, no third-party import."""
