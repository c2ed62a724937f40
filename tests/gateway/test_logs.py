import json
import logging

import pytest

from clinvk.gateway.logs import JsonLines, redacted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key clinvk_abcdefghijklmnopqrstuvwxyz0123456789 used", "key [redacted] used"),
        ("sk-ant-api03-abcdefghijklmnop", "[redacted]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "[redacted]", "x": 1}'),
        ("X-Api-Key=abc&x=1", "X-Api-Key=[redacted]"),
        ("password: hunter2", "password: [redacted]"),
        ("12 tokens were used", "12 tokens were used"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, left: str) -> None:
    assert redacted(text) == left


def test_a_record_is_one_line_of_json_with_its_traceback() -> None:
    try:
        raise ValueError("token=abc")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 1, "failed\nbadly", None, (type(error), error, error.__traceback__)
        )
    record.request_id = "req_1"
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["level"], line["message"], line["request_id"]) == ("error", "failed\nbadly", "req_1")
    assert line["traceback"].endswith("ValueError: token=[redacted]")
