"""Errors, named by who must act. Each has a stable `code`, fields, and `retry_after` where time heals it.

They are told apart by type or by code, never by their text. Anything that is not an `EdgedError` is a bug: it climbs to
the daemon's TaskGroup, the process exits non-zero and systemd starts it again.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BadRequest",
    "Busy",
    "Cancelled",
    "CloudUnreachable",
    "ConfigError",
    "ContextOverflow",
    "DeadlineExceeded",
    "DigestMismatch",
    "DiskFull",
    "DownloadInterrupted",
    "DownloadRefused",
    "DropRejected",
    "EdgedError",
    "EngineCrashed",
    "Forbidden",
    "GenerationFailed",
    "LengthMismatch",
    "ModelBroken",
    "ModelInUse",
    "ModelWontFit",
    "NameTaken",
    "NotAModel",
    "NotFound",
    "OutOfMemory",
    "PowerSaving",
    "QueueFull",
    "RateLimited",
    "StoreUnavailable",
    "TooLarge",
    "ToolFailed",
    "Unavailable",
    "error_from_wire",
]


class EdgedError(Exception):
    """Base of all expected errors.

    `code` is stable and part of the API; `detail` is one sentence that says what to do; `fields` is JSON-able context;
    `retry_after` is seconds, or None where waiting does not help.
    """

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.fields = fields

    def to_wire(self) -> dict[str, Any]:
        """The JSON-able form that replies, rows and frames carry."""
        wire: dict[str, Any] = {"code": self.code, "detail": self.detail}
        if self.retry_after is not None:
            wire["retry_after"] = self.retry_after
        if self.fields:
            wire["fields"] = self.fields
        return wire


class BadRequest(EdgedError):
    """The caller must change the request."""

    code = "bad_request"


class NotFound(BadRequest):
    """What the caller named does not exist (an agent, a request, a model)."""

    code = "not_found"


class Forbidden(BadRequest):
    """The caller's role may not do this."""

    code = "forbidden"


class TooLarge(BadRequest):
    """The request exceeds a stated limit."""

    code = "too_large"


class ContextOverflow(BadRequest):
    """The prompt is longer than the model reads; nothing was cut."""

    code = "context_overflow"


class Cancelled(BadRequest):
    """The caller took the request back."""

    code = "cancelled"


class Unavailable(EdgedError):
    """Only time can mend it; `retry_after` says how much."""

    code = "unavailable"


class QueueFull(Unavailable):
    """A bounded queue has no room."""

    code = "queue_full"


class RateLimited(Unavailable):
    """One caller asks too often; others are not affected."""

    code = "rate_limited"


class DeadlineExceeded(Unavailable):
    """The request's time ran out before it was answered."""

    code = "deadline_exceeded"


class ModelWontFit(Unavailable):
    """The memory budget does not admit the model now."""

    code = "model_wont_fit"


class ModelBroken(Unavailable):
    """The model file cannot be served on this device (bad file, or every way of running it crashed)."""

    code = "model_broken"


class EngineCrashed(Unavailable):
    """A model's worker ended while it held the request; the attempt is lost, the request is not."""

    code = "engine_crashed"


class OutOfMemory(EngineCrashed):
    """A model's worker was ended for its memory; `fields["by"]` is "kernel" or "wall". The model is given more next time."""

    code = "out_of_memory"


class GenerationFailed(Unavailable):
    """One generation broke in its worker; the others there go on."""

    code = "generation_failed"


class PowerSaving(Unavailable):
    """The power budget holds the work back."""

    code = "power_saving"


class CloudUnreachable(Unavailable):
    """The cloud cannot be reached or refused for now."""

    code = "cloud_unreachable"


class StoreUnavailable(Unavailable):
    """The durable store cannot commit (disk full, read-only)."""

    code = "store_unavailable"


class ToolFailed(EdgedError):
    """A tool refused or broke; the message goes back to the model."""

    code = "tool_failed"


class DropRejected(EdgedError):
    """The operator must mend a config drop."""

    code = "drop_rejected"


class NotAModel(EdgedError):
    """What was given or fetched is no model of a kind that edged serves; a web page, for one."""

    code = "not_a_model"


class DigestMismatch(EdgedError):
    """The bytes are not those that were promised or noted; they must not be used."""

    code = "digest_mismatch"


class LengthMismatch(EdgedError):
    """There are more or fewer bytes than were promised."""

    code = "length_mismatch"


class NameTaken(EdgedError):
    """Another model has that name: take another, or remove that one first."""

    code = "name_taken"


class ModelInUse(EdgedError):
    """The configuration names the model."""

    code = "model_in_use"


class DownloadRefused(EdgedError):
    """The other side answers with what cannot be followed, and would do so again."""

    code = "download_refused"


class DownloadInterrupted(Unavailable):
    """The connection or the other side failed for now; what was fetched is kept."""

    code = "download_interrupted"


class DiskFull(Unavailable):
    """There is no room for the file; nothing of it is kept."""

    code = "disk_full"


class Busy(Unavailable):
    """Another command works on the same thing."""

    code = "busy"


class ConfigError(EdgedError):
    """The operator must mend the configuration; a restart cannot. The process exits 78 (EX_CONFIG)."""

    code = "config_error"


def _all_codes(base: type[EdgedError]) -> dict[str, type[EdgedError]]:
    codes = {base.code: base}
    for sub in base.__subclasses__():
        codes |= _all_codes(sub)
    return codes


def error_from_wire(wire: dict[str, Any]) -> EdgedError:
    """Rebuild what `to_wire` wrote; an unknown code becomes a plain `EdgedError`."""
    kind = _all_codes(EdgedError).get(str(wire.get("code")), EdgedError)
    return kind(str(wire.get("detail", "")), retry_after=wire.get("retry_after"), **dict(wire.get("fields") or {}))
