"""The error vocabulary of every door.

A backend that ran and failed is a `Failure` value inside a result; a `ClinvkError` means that clinvk could
not do what was asked. Both carry the same fields, so that a door maps them in one place.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

ErrorCode = Literal[
    "invalid_request",
    "backend_unknown",
    "backend_unavailable",
    "backend_error",
    "backend_changed",
    "auth_required",
    "rate_limited",
    "quota_exhausted",
    "model_unknown",
    "permission_blocked",
    "unsupported_option",
    "workdir_denied",
    "policy_denied",
    "session_not_found",
    "session_busy",
    "session_lost",
    "run_not_found",
    "timeout",
    "stalled",
    "cancelled",
    "interrupted",
    "output_unreadable",
    "spawn_failed",
    "recursion_limit",
    "budget_exceeded",
    "overloaded",
    "internal",
]
ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)

# Trying again later, unchanged, may succeed.
RETRYABLE: frozenset[ErrorCode] = frozenset(
    {"rate_limited", "session_busy", "timeout", "stalled", "interrupted", "overloaded"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong (`message`), what to do (`hint`), and whether trying again unchanged may help."""

    code: ErrorCode
    message: str
    backend: str | None = None
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    retryable: bool = False
    retry_after_secs: float | None = None
    hint: str | None = None


class ClinvkError(Exception):
    """Raised when clinvk could not do what was asked; `failure` holds the fields that a door shows."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str | None = None,
        backend: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(
            code=code,
            message=message,
            backend=backend,
            details=details or {},
            retryable=code in RETRYABLE,
            hint=hint,
        )
