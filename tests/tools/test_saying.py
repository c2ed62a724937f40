"""What a run has said so far, read from its log."""

from pathlib import Path

import pytest

from clinvk.tools.saying import newest_message


@pytest.mark.parametrize(
    "damaged",
    [
        '{"type": "text_delta"}',
        '{"type": "text_delta", "text": 1}',
        '{"type": "text_delta", "text": null}',
        '{"type": ["text_end"]}',
        '{"type": {}}',
        "[]",
        "1",
        "{",
    ],
)
def test_a_damaged_line_is_passed_over(tmp_path: Path, damaged: str) -> None:
    lines = ['{"type": "text_end"}', '{"type": "text_delta", "text": "the "}', damaged]
    lines.append('{"type": "text_delta", "text": "newest"}')
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert newest_message(tmp_path) == ("the newest", True)
