"""May this caller use this agent? Pure."""

from __future__ import annotations

from edged.domain.errors import Forbidden
from edged.domain.messages import Caller
from edged.domain.resources import Agent

__all__ = ["require"]


def require(caller: Caller, agent: Agent) -> None:
    """Raises Forbidden unless the agent is open to all or names the caller's role."""
    if agent.roles and caller.role not in agent.roles:
        raise Forbidden(f"The role {caller.role!r} may not use the agent {agent.name!r}.", agent=agent.name)
