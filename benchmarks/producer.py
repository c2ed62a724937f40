"""A CLI that talks much: MIB of output in lines of CHARS characters of text, each encoded and written on its own.

`producer.py codex|gemini MIB CHARS`, standard library only.
"""

import json
import os
import sys
from typing import Any

THREAD = "00000000-0000-4000-8000-000000000000"


def lines(backend: str, count: int, text: str) -> tuple[list[Any], list[Any], list[Any]]:
    """What stands before, what is repeated, and what ends it."""
    if backend == "codex":
        item = {"id": "item_1", "type": "command_execution", "command": "ls", "status": "completed", "exit_code": 0}
        repeated = {"type": "item.completed", "item": {**item, "aggregated_output": text}}
        answer = {"type": "item.completed", "item": {"id": "item_2", "type": "agent_message", "text": "done"}}
        usage = {"input_tokens": 12, "cached_input_tokens": 2, "output_tokens": 3}
        return (
            [{"type": "thread.started", "thread_id": THREAD}],
            [repeated] * count,
            [answer, {"type": "turn.completed", "usage": usage}],
        )
    stats = {"input_tokens": 12, "output_tokens": 3, "cached": 2, "total_tokens": 15}
    return (
        [{"type": "init", "session_id": THREAD, "model": "fake"}],
        [{"type": "message", "role": "assistant", "content": text, "delta": True}] * count,
        [{"type": "result", "status": "success", "stats": stats}],
    )


def main() -> None:
    """Write it all to standard output."""
    backend, mib, chars = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    text = ("The quick brown fox, 1 line:\n" * (chars // 29 + 1))[:chars]
    for part in lines(backend, mib * 1024 * 1024 // chars, text):
        for line in part:
            data = json.dumps(line).encode() + b"\n"
            while data:
                data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
