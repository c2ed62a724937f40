"""Fields that an action would pass over are refused: whoever gave them expects them to matter."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from clinvk.backends import registry
from clinvk.errors import ClinvkError


def refuse_unused(request: BaseModel, action: str, unused: Mapping[str, Sequence[str]]) -> None:
    """Raises ClinvkError(invalid_request) when a field that means nothing to `action` was given."""
    for field in unused[action]:
        if getattr(request, field) != type(request).model_fields[field].default:
            used = [name for name, fields in unused.items() if field not in fields]
            raise ClinvkError(
                "invalid_request",
                f"{field} means nothing to action {action!r}",
                hint=f"leave {field} out; it belongs to: {', '.join(used)}",
                details={"field": field},
            )


def check_filters(backend: str | None, workdir: str | None) -> None:
    """Raises ClinvkError for a filter that can match nothing: an unknown backend, a relative directory."""
    if backend is not None:
        registry.get(backend)
    if workdir is not None and not Path(workdir).expanduser().is_absolute():
        raise ClinvkError(
            "invalid_request",
            f"workdir {workdir!r} is relative",
            hint="give the absolute path of the directory",
            details={"field": "workdir", "value": workdir},
        )


def check_schema(schema: Mapping[str, object] | None) -> None:
    """Raises ClinvkError(invalid_request) for an output_schema that is no JSON Schema, before an agent is paid."""
    if schema is None:
        return
    # Imported here: slow to load, rarely needed.
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]

    try:
        validator_for(dict(schema)).check_schema(dict(schema))
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the schema"
        raise ClinvkError(
            "invalid_request",
            f"output_schema is no valid JSON Schema: {where}: {error.message}",
            hint="see json-schema.org; draft 2020-12 is assumed where $schema does not say otherwise",
            details={"field": "output_schema"},
        ) from None
