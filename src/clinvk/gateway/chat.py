"""What the two chat APIs have in common: a conversation, a model's name, and a prompt made of them.

They know no runs: a call waits for its answer, and when it cannot wait any longer, or its client leaves, the run is
cancelled.
"""

import base64
import binascii
import re
import secrets
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import anyio
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from clinvk.backends import registry
from clinvk.backends.values import IMAGE_TYPES
from clinvk.errors import ClinvkError, Failure
from clinvk.events import Event
from clinvk.executor.live import Listener
from clinvk.files import private_folder, writing
from clinvk.gateway.service import Service, trail_of
from clinvk.request import NUMBER, ApprovalMode, Flag, PromptRequest, SandboxMode, Tag, Word
from clinvk.response import PromptResult
from clinvk.tools import output, prompt
from clinvk.tools.app import App
from clinvk.tools.faults import validated

SESSION_HEADER, WORKDIR_HEADER = "X-Clinvk-Session", "X-Clinvk-Workdir"
IGNORED_HEADER, WARNING_HEADER = "X-Clinvk-Ignored", "X-Clinvk-Warning"
SCHEMA = "output_schema"  # what a prompt calls the shape of its answer
DEFAULT = "default"  # the model's name for: whatever backend clinvk takes when none is named
UPLOADS = "uploads"
LONGEST_SECS = 86_400.0
_SUFFIXES = {kind: f".{kind.partition('/')[2]}" for kind in IMAGE_TYPES.values()}


class ChatOptions(BaseModel):
    """What clinvk can be told beyond the API, as `clinvk` in the body (`extra_body` of the SDKs)."""

    model_config = ConfigDict(extra="forbid")

    workdir: Word | None = Field(default=None, description="Directory that the agent works in.")
    sandbox_mode: SandboxMode | None = None
    approval_mode: ApprovalMode | None = None
    max_turns: Annotated[int, Field(ge=1, le=10_000), NUMBER] | None = None
    timeout_secs: Annotated[float, Field(gt=0, le=LONGEST_SECS), NUMBER] | None = None
    ephemeral: Flag = False
    tags: list[Tag] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that came with a message."""

    suffix: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message, of whatever parts it was made."""

    role: Literal["user", "assistant"]
    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A call of either API, understood."""

    model: str
    messages: Sequence[Message]
    system: str | None
    system_name: str = "messages"  # where the caller wrote it
    schema: dict[str, Any] | None = None
    schema_name: str = SCHEMA  # the same of it
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    options: ChatOptions = field(default_factory=ChatOptions)
    ignored: Sequence[str] = ()

    @property
    def answered(self) -> int:
        """How many messages there are up to the last one of the assistant."""
        return next((n for n in range(len(self.messages), 0, -1) if self.messages[n - 1].role == "assistant"), 0)

    def prompt(self, *, pinned: bool) -> str:
        """What the backend is asked: the newest words of the user, after what was said before.

        A pinned session has the conversation already. Raises ClinvkError(invalid_request).
        """
        last = self.answered
        newest = "\n\n".join(message.text for message in self.messages[last:])
        if not newest.strip():
            raise bad("messages", "must end with a message of the user that holds text")
        if pinned or last == 0:
            return newest
        said = "\n\n".join(f"<{m.role}>\n{m.text}\n</{m.role}>" for m in self.messages[:last])
        return f"This continues a conversation. What was said so far:\n\n{said}\n\nThe user now says:\n\n{newest}"


def bad(name: str, why: str, value: object = None) -> ClinvkError:
    """The error for a part of the request that cannot be used."""
    details = {"field": name} if value is None else {"field": name, "value": value}
    return ClinvkError("invalid_request", f"{name} {why}", details=details)


def image(where: str, media_type: str, data: str) -> Image:
    """A picture from base64. Raises ClinvkError(invalid_request)."""
    suffix = _SUFFIXES.get(media_type.lower())
    if suffix is None:
        raise bad(where, f"is {media_type!r}; accepted: {', '.join(_SUFFIXES)}", media_type)
    try:
        return Image(suffix, base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise bad(where, "is not valid base64") from None


def target(app: App, name: str) -> tuple[str, str | None]:
    """The backend and the model that a model's name stands for. Raises ClinvkError(model_unknown)."""
    asked, name = name, app.config.server.model_aliases.get(name, name)
    if name == DEFAULT:
        return app.default_backend(), None
    backend, slash, model = name.partition("/")
    if backend in registry.BACKENDS and bool(model) == bool(slash):
        return backend, model or None
    for known, module in registry.BACKENDS.items():
        if name in module.MODELS:
            return known, name
    raise ClinvkError(
        "model_unknown",
        f"there is no model {name!r}" + (f", for which the alias {asked!r} stands" if asked != name else ""),
        hint=f"a model is a backend ({', '.join(registry.BACKENDS)}), backend/model, or one of server.model_aliases",
        details={"field": "model", "value": name},
    )


def names(app: App) -> list[tuple[str, str]]:
    """Every name that `target` understands without guessing, with its backend: of the backends that can be used."""
    usable = [*app.available(), registry.BUILT_IN]
    found: dict[str, str] = {name: name for name in dict.fromkeys(usable)}
    for backend in tuple(found):
        found |= {f"{backend}/{model}": backend for model in registry.BACKENDS[backend].MODELS}
    for alias in app.config.server.model_aliases:
        with suppress(ClinvkError):  # an alias for nothing is told to who uses it, and keeps nobody from the others
            backend = target(app, alias)[0]
            if backend in usable:
                found[alias] = backend
    return list(found.items())


def judged(
    given: Mapping[str, Any], honoured: frozenset[str], refused: Mapping[str, Sequence[object]], hint: str
) -> list[str]:
    """The parameters that are ignored. Raises ClinvkError(unsupported_option) for those that change what is answered.

    `refused` maps their names to the values that ask for nothing; `hint` says what to ask for instead of tools.
    """
    ignored: list[str] = []
    for name, value in given.items():
        if value is None or name in honoured:
            continue
        if name not in refused:
            ignored.append(name)
            continue
        _check_kind(name, value, refused[name])
        if value not in refused[name]:
            raise ClinvkError(
                "unsupported_option",
                f"{name} is not supported: an agent CLI cannot be told so",
                hint=hint if "tool" in name or "function" in name else None,
                details={"field": name},
            )
    return ignored


def _check_kind(name: str, value: object, nothings: Sequence[object]) -> None:
    """Raises ClinvkError(invalid_request) for true where a number belongs, and for 1 where true does."""
    for nothing in nothings:
        if isinstance(nothing, int) and isinstance(value, int | float):
            if isinstance(value, bool) and not isinstance(nothing, bool):
                raise bad(name, f"is {str(value).lower()}; it must be a number", value)
            if isinstance(nothing, bool) and not isinstance(value, bool):
                raise bad(name, f"is {value}; it must be true or false", value)


def unread(value: object, where: str) -> Iterator[str]:
    """The names of what was given within a part of a request that nothing here looks at."""
    if isinstance(value, BaseModel):
        for name, item in value:
            if name not in (value.model_extra or {}):
                yield from unread(item, f"{where}.{name}")
            elif item not in (None, [], {}):  # how SDKs write what is not there
                yield f"{where}.{name}"
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from unread(item, where)


async def answered(service: Service, request: Request, chat: Chat, listener: Listener | None) -> PromptResult:
    """Ask, and wait for the answer. Raises ClinvkError."""
    trail = trail_of(request.scope)
    backend, model = target(service.app, chat.model)
    pinned = _header(request, SESSION_HEADER)
    asked = chat.prompt(pinned=pinned is not None)
    trail.backend, trail.prompts = backend, [asked]
    trail.workdir = _workdir(request, chat.options) or ""
    given = {
        "prompt": asked,
        "backend": backend,
        "model": model,
        "session_id": pinned,
        "system_prompt": chat.system,
        "output_schema": chat.schema,
        "metadata": dict(chat.metadata),
        "fresh": True,  # the same words twice are two questions
        "wait_secs": LONGEST_SECS,
        **chat.options.model_dump(exclude={"workdir"}),
        "workdir": trail.workdir or None,
    }

    def hear(run_id: str, backend: str, event: Event) -> None:
        trail.run_id = run_id
        if listener is not None:
            listener(run_id, backend, event)

    names = _names(request, chat, given)
    async with _uploaded(service.app, chat, pinned=pinned is not None) as files:
        caller = service.caller(request, hear, files)
        try:
            options = validated(PromptRequest, given)
            with anyio.fail_after(service.wait_secs):
                result = await prompt.prompt(service.app, options, caller)
        except ClinvkError as error:
            error.failure = _as_written(error.failure, names)
            raise
        except TimeoutError:
            raise ClinvkError(
                "timeout",
                f"there was no answer within {service.wait_secs:g} s",
                hint="server.request_timeout_secs sets the limit; what the backend said so far is kept with its run",
            ) from None
    assert isinstance(result, PromptResult)
    trail.used_tools = service.used_tools(result)
    result.error = result.error and _as_written(result.error, names)
    if result.output_truncated and result.structured_output is None:
        result.output = await anyio.to_thread.run_sync(lambda: "".join(output.text_of(service.app, result.run_id)))
        result.output_truncated = False
    return result


def _names(request: Request, chat: Chat, given: Mapping[str, object]) -> dict[str, str]:
    """Where the caller wrote a prompt's fields, as far as these have another name and were given."""
    names = {
        "prompt": "messages",
        "files": "messages",
        "session_id": SESSION_HEADER,
        "system_prompt": chat.system_name,
        SCHEMA: chat.schema_name,
        **{name: f"clinvk.{name}" for name in chat.options.model_fields_set},
    }
    if WORKDIR_HEADER in request.headers:
        names["workdir"] = WORKDIR_HEADER
    return {name: written for name, written in names.items() if name == "files" or given[name]}


def _as_written(failure: Failure, names: Mapping[str, str]) -> Failure:
    """The same with the names that the caller wrote, where those of a prompt's fields are others."""
    details = dict(failure.details)
    wrong = str(details.get("field") or details.get("option"))
    message, schema = failure.message, names.get(SCHEMA, SCHEMA)
    if wrong in names:
        details["field"] = names[wrong]
        message = re.sub(f"^{wrong}(?= )", lambda _: names[wrong], message)
    if "fields" in details:  # what is said of each begins with it
        details["fields"] = [names.get(name, name) for name in details["fields"]]
        message = re.sub(r"(^|; )(\w+)(?= )", lambda found: found[1] + names.get(found[2], found[2]), message)
    hint = failure.hint and failure.hint.replace(SCHEMA, schema)
    return replace(failure, message=message.replace(SCHEMA, schema), hint=hint, details=details)


def _header(request: Request, name: str) -> str | None:
    """The value of a header. Raises ClinvkError where it is there and says nothing, or several things."""
    values = list(dict.fromkeys(request.headers.getlist(name)))
    if len(values) > 1:
        raise bad(name, f"is given twice: {values[0]!r} and {values[1]!r}")
    if values == [""]:
        raise bad(name, "must not be empty")
    return values[0] if values else None


def _workdir(request: Request, options: ChatOptions) -> str | None:
    """Where to work. Raises ClinvkError when header and body name different places."""
    header = _header(request, WORKDIR_HEADER)
    if header is not None and options.workdir is not None and header != options.workdir:
        raise bad(
            "clinvk.workdir",
            f"is {options.workdir!r}, but the header {WORKDIR_HEADER} says {header!r}; leave one of them out",
            options.workdir,
        )
    return header or options.workdir


@asynccontextmanager
async def _uploaded(app: App, chat: Chat, *, pinned: bool) -> AsyncGenerator[tuple[Path, ...]]:
    """The pictures as files that only clinvk's user can read, for the time of the call."""
    messages = chat.messages[chat.answered :] if pinned else chat.messages
    images = [image for message in messages for image in message.images]
    if not images:
        yield ()
        return
    folder = app.home / UPLOADS / secrets.token_hex(8)
    files = [folder / f"image{number}{image.suffix}" for number, image in enumerate(images, 1)]
    private_folder(folder)
    try:
        with writing(folder):
            for path, picture in zip(files, images, strict=True):
                path.write_bytes(picture.data)
        yield tuple(files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
