"""A clinvk server without a door: operations as JSON lines on stdin, results as JSON lines on stdout.

`python serve.py [FLAG=VALUE ...]`, environment as for clinvk. It is there to be killed. A line is {"do": OPERATION, ...
fields of its request}; each result comes when it is there, as {"line": NUMBER, "result": ...} or {"line", "error"}.
The first line of output is {"keeper": PID}. It stops when stdin ends.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from pydantic import BaseModel

from clinvk.backends import registry
from clinvk.config.cascade import load
from clinvk.errors import ClinvkError
from clinvk.request import ChainRequest, CompareRequest, ParallelRequest, PromptRequest, RunsRequest
from clinvk.tools import chain, compare, parallel, prompt, runs
from clinvk.tools.app import App, opened
from clinvk.tools.caller import Caller

Operation = Callable[[App, Any, Caller], Awaitable[BaseModel]]
OPERATIONS: dict[str, tuple[type[BaseModel], Operation]] = {
    "prompt": (PromptRequest, prompt.prompt),
    "parallel": (ParallelRequest, parallel.parallel),
    "chain": (ChainRequest, chain.chain),
    "compare": (CompareRequest, compare.compare),
    "runs": (RunsRequest, runs.runs),
}


def put(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def answer(app: App, number: int, line: dict[str, Any]) -> None:
    request, operation = OPERATIONS[line.pop("do")]
    try:
        result = await operation(app, request.model_validate(line), Caller(client="served", cwd=Path.cwd()))
    except ClinvkError as error:
        put(line=number, error=error.failure.code)
    else:
        put(line=number, result=result.model_dump(mode="json"))


async def serve(flags: dict[str, object]) -> None:
    environ = dict(os.environ)
    loaded = load(environ, known_backends=registry.BACKENDS, flags=flags)
    async with opened(loaded, environ) as app, anyio.create_task_group() as tasks:
        process = app.executor.keeper._process  # pyright: ignore[reportPrivateUsage]
        put(keeper=process.pid if process else None)
        number = 0
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            number += 1
            tasks.start_soon(answer, app, number, json.loads(line))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(serve, {name: json.loads(value) for name, _, value in (word.partition("=") for word in sys.argv[1:])})
