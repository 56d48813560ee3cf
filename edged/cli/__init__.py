"""The `edged` command: a client of the socket, and what works without a daemon (check, doctor). `main` is the way in."""
