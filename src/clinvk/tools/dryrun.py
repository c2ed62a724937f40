"""What the parts of a call would start: nothing is started, nothing is written."""

from collections.abc import Sequence

from clinvk.errors import ClinvkError
from clinvk.request import PromptOptions
from clinvk.response import DryRunResult
from clinvk.tools.app import App
from clinvk.tools.caller import Caller
from clinvk.tools.prompt import dry_run


def is_dry(field: str, parts: Sequence[PromptOptions]) -> bool:
    """Whether the parts are to be shown only. Raises ClinvkError(invalid_request) when some are and some are not."""
    dry = [part.dry_run for part in parts]
    if all(dry):
        return True
    for number, one in enumerate(dry):
        if one:
            raise ClinvkError(
                "invalid_request",
                f"{field}[{number}].dry_run is true, and {field}[{dry.index(False)}].dry_run is not",
                hint=f"set it for all {field} or for none: a call either shows what it would run, or runs it",
                details={"field": f"{field}[{number}].dry_run"},
            )
    return False


def planned(app: App, place: tuple[str, str], options: PromptOptions, caller: Caller) -> DryRunResult:
    """What one part would start. Raises ClinvkError, which names the place, for why it would be refused.

    `place` is what the part is called, and what its fields begin with in the request.
    """
    try:
        return dry_run(app, options, caller)
    except ClinvkError as error:
        why = error.failure
        name, begins = place
        details = {**why.details, "field": f"{begins}{why.details['field']}"} if "field" in why.details else why.details
        raise ClinvkError(
            why.code, f"{name}: {why.message}", hint=why.hint, backend=why.backend, details=details
        ) from error
