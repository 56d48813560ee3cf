"""Models on this device: what a file needs, who holds memory, who runs next, and the worker children that run them."""
