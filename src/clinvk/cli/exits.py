"""Exit codes, and which error ends with which."""

OK = 0
GENERAL = 1
NO_BACKEND = 2
CONFIGURATION = 3
SESSION = 4
API = 5
TIMEOUT = 6
CANCELLED = 7
BROKEN_PIPE = 141  # 128 + SIGPIPE, as of any program whose reader left

_OF_CODE = {
    "backend_unknown": NO_BACKEND,
    "backend_unavailable": NO_BACKEND,
    "session_not_found": SESSION,
    "session_busy": SESSION,
    "session_lost": SESSION,
    "auth_required": API,
    "rate_limited": API,
    "quota_exhausted": API,
    "model_unknown": API,
    "timeout": TIMEOUT,
    "stalled": TIMEOUT,
    "cancelled": CANCELLED,
    "interrupted": CANCELLED,
}


def of_error(code: str) -> int:
    """The exit code for an error code of the contract."""
    return _OF_CODE.get(code, GENERAL)
