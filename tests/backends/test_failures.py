"""What the texts and endings of a failed process mean."""

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends import failures
from clinvk.backends.failures import Advice
from clinvk.events import Ending

ADVICE = Advice(backend="claude", title="The CLI", log_in="log in", models="use m", update="update it")


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("Invalid API key · Fix external API key", 401, "auth_required"),
        ("unexpected status 401 Unauthorized: x, url: http://h/v1/responses", None, "auth_required"),
        ("Not logged in · Please run /login", None, "auth_required"),
        ("Missing environment variable: `OPENAI_KEY`.", None, "auth_required"),
        ("OAuth token has expired. Please obtain a new token", None, "auth_required"),
        ("API Error: Request rejected (429)", 429, "rate_limited"),
        ("exceeded retry limit, last status: 429 Too Many Requests", None, "rate_limited"),
        ("RESOURCE_EXHAUSTED: slow down", None, "rate_limited"),
        ("Quota exceeded for quota metric 'requests'", 429, "quota_exhausted"),
        ("You exceeded your current quota, please check your plan and billing details.", 429, "quota_exhausted"),
        ("You've hit your usage limit. Try again in 3 hours", None, "quota_exhausted"),
        ("Credit balance is too low", 400, "quota_exhausted"),
        ("payment", 402, "quota_exhausted"),
        ("Rate limit reached for m on tokens per min (TPM). Please try again in 11.054s.", 429, "rate_limited"),
        ("Quota exceeded for metric requests per minute. Please retry in 37.2s.", 429, "rate_limited"),
        ("Quota exceeded for metric requests per minute. Please retry in 37.2s.", None, "rate_limited"),
        ("The model `gpt-9` does not exist or you do not have access to it.", None, "model_unknown"),
        ("models/gemini-9 is not found for API version v1beta", 404, "model_unknown"),
        ("There's an issue with the selected model (opus-9).", 404, "model_unknown"),
        ("No conversation found with session ID: 1", None, "session_lost"),
        ("thread/resume failed: no rollout found for thread id 1 (code -32600)", None, "session_lost"),
        ('Error resuming session: Invalid session identifier "1".', None, "session_lost"),
        ("API Error: 500 something broke", 500, "backend_error"),
        ("a riddle", None, "backend_error"),
        ("API Error: 529 Overloaded. This is a server-side issue", 529, "overloaded"),
        ("API Error: Overloaded", None, "overloaded"),
        ("The model is overloaded. Please try again later.", 503, "overloaded"),
        ("Selected model is at capacity. Please try a different model.", None, "overloaded"),
        ("Too Many Requests: the service is overloaded", 429, "rate_limited"),
        ("the overloaded method of the class does not compile", None, "backend_error"),
    ],
)
def test_an_error_text_has_a_code_and_a_remedy(message: str, status: int | None, code: str) -> None:
    failure = failures.classify(ADVICE, message, status)
    assert failure.code == code
    assert failure.message == message
    assert failure.hint


@pytest.mark.parametrize(
    ("message", "status", "retryable"),
    [
        ("x", 500, True),
        ("x", 529, True),
        ("connection refused", None, True),
        ("stream disconnected", None, True),
        ("x", 400, False),
        ("slow down", 429, True),
        ("bad key", 401, False),
    ],
)
def test_what_may_pass_by_itself_is_retryable(message: str, status: int | None, retryable: bool) -> None:
    assert failures.classify(ADVICE, message, status).retryable is retryable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Retry-After: 30", 30.0),
        ("please try again in 1.5s", 1.5),
        ("Please retry in 250ms.", 0.25),
        ("try again in 3 hours", 10_800.0),
        ("try again in 2 minutes", 120.0),
        ("resets in 5 mins", 300.0),
        ("try again later", None),
    ],
)
def test_the_wait_is_told_in_seconds_where_the_text_tells_it(text: str, seconds: float | None) -> None:
    assert failures.classify(ADVICE, f"rate limit: {text}", 429).retry_after_secs == seconds


def test_an_api_error_object_is_unwrapped() -> None:
    failure = failures.classify(
        ADVICE, '[API Error: {"error":{"code":401,"message":"no such key","status":"UNAUTHENTICATED"}}]'
    )
    assert failure.code == "auth_required"
    assert failure.message == "no such key (UNAUTHENTICATED)"
    assert failure.details == {"http_status": 401}


REASONS = {
    "cancelled": "cancelled",
    "timeout": "timeout",
    "stalled": "stalled",
    "output_limit": "output_unreadable",
    "disk_full": "internal",
    "spawn_failed": "spawn_failed",
    "interrupted": "interrupted",
}


def test_every_way_to_end_has_a_code() -> None:
    assert set(get_args(get_type_hints(Ending)["reason"])) == {"exited", *REASONS}
    for reason, code in REASONS.items():
        failure = failures.ended(ADVICE, Ending(reason=reason))  # type: ignore[arg-type]
        assert failure is not None
        assert failure.code == code
        assert "The CLI" in failure.message or "clinvk" in failure.message
        assert failure.hint
    assert failures.ended(ADVICE, Ending(reason="exited", exit_code=1)) is None


def test_the_keepers_own_words_are_kept() -> None:
    failure = failures.ended(ADVICE, Ending(reason="spawn_failed", message="no such file: 'x'"))
    assert failure is not None
    assert failure.message == "no such file: 'x'"


@pytest.mark.parametrize(
    ("stderr", "flag"),
    [
        ("error: unknown option '--no-such-flag'\n", "--no-such-flag"),
        ("error: unexpected argument '--json' found\n\n  tip: ...\nUsage: codex\n", "--json"),
        ("error: invalid value 'x' for '--sandbox <SANDBOX_MODE>'\n", "--sandbox"),
        ("Unknown arguments: approval-mode, approvalMode\nUsage: gemini\n", "--approval-mode"),
        ("error: option '--permission-mode <mode>' argument 'x' is invalid.\n", "--permission-mode"),
        ("Invalid values:\n  Argument: approval-mode, Given: x\n", "--approval-mode"),
        ("Invalid values:\n", None),
        (
            "WARNING: x\nError loading config.toml: unknown configuration field `features.x` in -c/--config override\n",
            "features.x",
        ),
    ],
)
def test_a_rejected_flag_is_named_with_the_remedy(stderr: str, flag: str | None) -> None:
    failure = failures.start_failure(ADVICE, stderr, 1)
    assert failure.code == "backend_changed"
    assert failure.details["flag"] == flag
    assert "update it" in (failure.hint or "")


def test_the_installed_version_is_added_by_who_knows_it() -> None:
    failure = failures.start_failure(ADVICE, "error: unknown option '--x'", 1)
    named = failures.naming_version(failure, "1.2.3")
    assert "1.2.3" in named.message
    assert named.details["version"] == "1.2.3"
    other = failures.classify(ADVICE, "x")
    assert failures.naming_version(other, "1.2.3") is other


def test_noise_on_stderr_does_not_hide_the_error() -> None:
    stderr = "\n".join(
        [
            "Warning: colours are off",
            "(node:12) DeprecationWarning: x",
            "Reading additional input from stdin...",
            "Error: the real one",
            "    at main (file:///x.js:1:1)",
        ]
    )
    assert failures.start_failure(ADVICE, stderr, 1).message == "Error: the real one"


def test_colours_are_no_part_of_a_message_and_hide_no_flag() -> None:
    coloured = failures.start_failure(ADVICE, "\x1b[31mThe settings are broken.\x1b[0m\n", 52)
    assert coloured.message == "The settings are broken."
    assert failures.start_failure(ADVICE, "\x1b[31merror: unknown option '--x'\x1b[0m\n", 1).details == {"flag": "--x"}


def test_silence_is_told_as_such() -> None:
    assert failures.start_failure(ADVICE, "", 0).code == "output_unreadable"
    assert "code 3" in failures.start_failure(ADVICE, "", 3).message
    assert "signal 9" in failures.start_failure(ADVICE, "", 137).message


@pytest.mark.parametrize("message", ["", " \r\n"])
def test_a_failure_without_words_has_a_message_all_the_same(message: str) -> None:
    assert failures.classify(ADVICE, message, 500).message == "The CLI failed without a message"


@given(message=st.text(), stderr=st.text(), status=st.none() | st.integers(0, 999), code=st.integers(-1, 300))
def test_no_text_breaks_the_classification(message: str, stderr: str, status: int | None, code: int) -> None:
    failure = failures.classify(ADVICE, message, status)
    assert failure.message
    assert len(failure.message) <= failures.MESSAGE_CHARS
    failure.message.encode("utf-8")
    assert failures.start_failure(ADVICE, stderr, code).message
