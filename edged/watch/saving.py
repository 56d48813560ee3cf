"""What a state of the power holds back. Pure. Patterns and the intent tier always answer; only language models are held back."""

from __future__ import annotations

from edged.device.governor import Standing
from edged.domain.errors import PowerSaving
from edged.domain.messages import Priority
from edged.domain.power import PowerPlan

__all__ = ["RETRY_AFTER", "refusal"]

RETRY_AFTER = 60.0  # a look at the battery comes every ten seconds, and a state lasts


def refusal(standing: Standing, battery: bool, priority: Priority, plan: PowerPlan) -> PowerSaving | None:
    """Why a request of this priority gets no local model now, and what to do; None where it does.

    A device without a battery saves nothing by waiting, unless its operator says so.
    """
    if not (battery or plan.without_battery) or priority is Priority.HIGH:
        return None
    if standing.state in plan.refuse_normal:
        todo = "Ask with high priority if it cannot wait, or connect power."
    elif standing.state in plan.refuse_low and priority is Priority.LOW:
        todo = "Ask with normal priority if it cannot wait, or connect power."
    else:
        return None
    if standing.state is standing.heat:
        todo = todo.replace("connect power", "let the device cool down")
    detail = f"The device is in the power state {standing.state} ({standing.why}), so the local model rests. {todo}"
    return PowerSaving(detail, retry_after=RETRY_AFTER, state=str(standing.state))
