"""This process's memory wall: how much it may ask the kernel for, and ending with a word when it asks for more.

Past the wall an allocation fails, and native code dies of that as it likes: a C++ exception that nobody catches aborts, which looks
like any crash. So the handler for those is ours, and whoever notices a failed allocation calls `fell`. Without a wall nothing is
done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Any

from edged.ipc.memory import EX_MEMORY

__all__ = ["fell", "looks_like_it", "stand"]

# How allocations fail in the words of C++, Python, the dynamic linker, llama.cpp and onnxruntime; none of them has a code for it.
_SIGNS = (
    *("bad_alloc", "bad allocation", "Failed to allocate memory", "insufficient memory", "failed to allocate"),
    *("Cannot allocate memory", "failed to map segment", "can't start new thread"),
)
_standing = False
_kept: list[Any] = []  # native code holds only the pointer


def stand(size: int) -> None:
    """Let this process have `size` bytes of writable private memory and no more, from now on."""
    global _standing
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    _standing = True
    with contextlib.suppress(OSError, AttributeError):  # where there is no libstdc++, nothing throws its exceptions
        runtime = ctypes.CDLL("libstdc++.so.6")
        runtime.__cxa_current_exception_type.restype = ctypes.POINTER(ctypes.c_void_p * 2)
        handler = ctypes.CFUNCTYPE(None)(lambda: _terminate(runtime))
        _kept.append(handler)
        runtime._ZSt13set_terminatePFvvE(handler)  # std::set_terminate


def fell() -> None:
    """Memory ran out: end the process, if there is a wall that it can have run into."""
    if _standing:
        os.write(2, b"out of the memory wall\n")
        os._exit(EX_MEMORY)


def looks_like_it(error: BaseException | str) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS)


def _terminate(runtime: ctypes.CDLL) -> None:
    """Instead of std::terminate's own handler: the type of what was thrown is an std::type_info, a vtable and a name."""
    thrown = runtime.__cxa_current_exception_type()
    name = ctypes.string_at(thrown.contents[1]) if thrown and thrown.contents[1] else b""
    if b"bad_alloc" in name:
        fell()
    sys.stderr.write(f"uncaught C++ exception {name.decode(errors='replace')}\n")
    os.abort()
