"""Child processes. They import neither pydantic nor asyncio, and nobody imports them.

They speak the frames of `edged.ipc.frames` over the socket that they inherit.
"""
