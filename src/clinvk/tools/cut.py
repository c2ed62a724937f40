"""Answers are cut for the caller; all of them stay one `runs` call away."""

from pydantic import BaseModel

from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult


def cut(result: BaseModel, max_chars: int) -> None:
    """Shorten every answer in a result to `max_chars`, in place."""
    match result:
        case PromptResult():
            if len(result.output) > max_chars:
                result.output, result.output_truncated = result.output[:max_chars], True
        case ParallelResult() | ChainResult() | CompareResult():
            for part in result.results:
                cut(part, max_chars)
        case _:
            pass
