"""Results of several runs share the room that one answer may take in a model's context.

A single answer is cut by the operation; ten of them side by side would still be ten times as long. What is left out
stays one `runs` call away, under the part's own run id.
"""

from typing import TypeVar

from clinvk.response import ChainResult, CompareResult, ParallelResult, PromptResult, RunsResult
from clinvk.tools.cut import cut

LEAST_CHARS = 2_000  # of every part, however many there are

Composite = TypeVar("Composite", bound=ParallelResult | ChainResult | CompareResult)


def fitted(result: Composite, max_chars: int) -> Composite:
    """The result with the outputs of its parts cut so that together they have about `max_chars`, in place.

    Short outputs leave their room to the long ones.
    """
    limit = _limit([len(part.output) for part in result.results], max_chars)
    for part in result.results:
        cut(part, limit)
    return result


def fitted_run(result: RunsResult, max_chars: int) -> RunsResult:
    """The same for the result of a run that is looked at."""
    if result.result is not None and not isinstance(result.result, PromptResult):
        fitted(result.result, max_chars)
    return result


def _limit(lengths: list[int], max_chars: int) -> int:
    """The length to which every output may go so that the sum stays within `max_chars`."""
    room = max_chars
    for done, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - done)
        if length > share:
            return max(share, LEAST_CHARS)
        room -= length
    return max_chars
