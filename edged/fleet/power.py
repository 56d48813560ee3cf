"""The table [power] of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edged.domain.power import PowerPlan, PowerState

__all__ = ["PowerSettings"]

_DEFAULT = PowerPlan()


class PowerSettings(BaseModel):
    """Thresholds, what is held back in which state, and whether energy is counted. See docs/power.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sysfs: Path = Path(_DEFAULT.sysfs)
    saver_percent: float = Field(default=_DEFAULT.saver_percent, ge=0, le=100)
    critical_percent: float = Field(default=_DEFAULT.critical_percent, ge=0, le=100)
    hysteresis_percent: float = Field(default=_DEFAULT.hysteresis_percent, ge=0, le=50)
    hot_celsius: float = Field(default=_DEFAULT.hot_celsius, ge=30, le=150)
    critical_celsius: float = Field(default=_DEFAULT.critical_celsius, ge=30, le=150)
    hysteresis_celsius: float = Field(default=_DEFAULT.hysteresis_celsius, ge=0, le=30)
    dwell_seconds: float = Field(default=_DEFAULT.dwell_seconds, ge=0, le=86400)
    refuse_low: tuple[PowerState, ...] = _DEFAULT.refuse_low
    refuse_normal: tuple[PowerState, ...] = _DEFAULT.refuse_normal
    without_battery: bool = _DEFAULT.without_battery
    account: bool = _DEFAULT.account
    watts_per_core: float = Field(default=_DEFAULT.watts_per_core, ge=0, le=1000)
    idle_watts: float = Field(default=_DEFAULT.idle_watts, ge=0, le=10000)

    @model_validator(mode="after")
    def _in_order(self) -> PowerSettings:
        if self.critical_percent >= self.saver_percent > 0:
            raise ValueError("critical_percent has to be below saver_percent")
        if self.hot_celsius >= self.critical_celsius:
            raise ValueError("hot_celsius has to be below critical_celsius")
        return self

    def plan(self, sysfs: Path) -> PowerPlan:
        """`sysfs` is the folder, made absolute."""
        return PowerPlan(**{**self.model_dump(), "sysfs": str(sysfs)})
