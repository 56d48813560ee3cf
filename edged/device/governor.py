"""Names the state that the device is in. Pure: a reading, the former standing and the time go in, a standing comes out.

Heat and supply are judged each by itself, and the worse of the two is the state. Worse is believed at once. Better has to pass the
threshold by the hysteresis, and waits until the state has lasted its least time: a loose plug must not make the daemon waver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edged.domain.power import PowerPlan, PowerReading, PowerState

__all__ = ["Standing", "judge"]

_BEFORE_SWITCHING_OFF = 5.0  # degrees below the point at which the kernel switches the device off


@dataclass(frozen=True, slots=True)
class Standing:
    """A state, since when (monotonic seconds), and why. `heat` (None: cool) and `supply` are what it was made of. `assumed`:
    nothing tells where the power comes from."""

    state: PowerState
    since: float
    why: str
    heat: PowerState | None = None
    supply: PowerState = PowerState.MAINS
    assumed: bool = False


def judge(reading: PowerReading, before: Standing | None, plan: PowerPlan, now: float) -> Standing:
    """The standing from now on. `before` is None at the first reading."""
    heat, hot_because = _heat(reading, before.heat if before else None, plan)
    supply, because = _supply(reading, before.supply if before else None, plan)
    state, why = (heat, hot_because) if heat is not None and heat.rank >= supply.rank else (supply, because)
    assumed = reading.mains is None and supply is PowerState.MAINS
    found = Standing(state, now, why, heat, supply, assumed)
    if before is None:
        return found
    if state is before.state:
        return replace(found, since=before.since)
    if state.rank < before.state.rank and now - before.since < plan.dwell_seconds:
        return replace(found, state=before.state, since=before.since, why=before.why)
    return found


def _heat(reading: PowerReading, former: PowerState | None, plan: PowerPlan) -> tuple[PowerState | None, str]:
    slack = plan.hysteresis_celsius
    for heat in reading.heats:
        limit = min(plan.critical_celsius, _or_never(heat.critical) - _BEFORE_SWITCHING_OFF)
        if heat.celsius >= limit - (slack if former is PowerState.CRITICAL else 0.0):
            return PowerState.CRITICAL, f"{heat.name} has {heat.celsius:.0f} °C, critical is {limit:.0f} °C"
    for heat in reading.heats:
        limit = min(plan.hot_celsius, _or_never(heat.passive))
        if heat.celsius >= limit - (slack if former is not None else 0.0):
            return PowerState.HOT, f"{heat.name} has {heat.celsius:.0f} °C, hot is {limit:.0f} °C"
    return (PowerState.HOT, "the firmware slows the processor down") if reading.throttled else (None, "")


def _supply(reading: PowerReading, former: PowerState | None, plan: PowerPlan) -> tuple[PowerState, str]:
    percent, known = reading.percent, former or PowerState.MAINS
    if reading.blind and known is not PowerState.MAINS and not reading.mains:
        return known, "the battery cannot be read; this is how it was"
    if reading.discharging and percent is not None:
        for state, limit in ((PowerState.CRITICAL, plan.critical_percent), (PowerState.SAVER, plan.saver_percent)):
            if percent <= limit + (plan.hysteresis_percent if known.rank >= state.rank else 0.0):
                return state, f"on battery with {percent:.0f} %, {state} is {limit:g} %"
    if reading.undervolted:
        return PowerState.SAVER, "the firmware reports under-voltage: the supply or its cable is too weak"
    if reading.discharging:
        charge = "its charge unknown" if percent is None else f"{percent:.0f} %"
        return PowerState.BATTERY, f"on battery with {charge}"
    if reading.mains:
        return PowerState.MAINS, "a supply is connected"
    return PowerState.MAINS, "assumed: no supply tells" if reading.telling else "assumed: nothing here tells of power"


def _or_never(celsius: float | None) -> float:
    return float("inf") if celsius is None else celsius
