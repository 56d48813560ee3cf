"""Why a model cannot be had, as errors that say what to do."""

from __future__ import annotations

from edged.domain.errors import EdgedError, ModelBroken, ModelWontFit
from edged.engine.allowance import Allowance
from edged.engine.records import Job

__all__ = ["refusal"]

_TAKEN = {"cgroup": "the memory limit of the service leaves", "available": "other programs leave"}
_MIB = 1 << 20


def refusal(job: Job, why: str, budget: int, allowed: Allowance, seconds: float) -> EdgedError:
    """`why` is the scheduler's; in `seconds` another attempt makes sense, if ever. The fields are bytes."""
    model, size = job.model, job.size
    if why == "budget":
        detail = f"{model} needs {size} bytes; the budget is {budget}: raise memory.budget or take a smaller model"
        return ModelWontFit(detail, needed=size, budget=budget)
    if why == "memory":
        taken = _TAKEN.get(allowed.by, "there are")
        detail = f"{model} needs {size // _MIB} MiB and {taken} {allowed.bytes // _MIB} MiB now; ask again later"
        return ModelWontFit(
            detail, retry_after=seconds, needed=size, budget=budget, allowed=allowed.bytes, by=allowed.by
        )
    return ModelBroken(f"{model} crashed too often and rests", retry_after=seconds, model=model)
