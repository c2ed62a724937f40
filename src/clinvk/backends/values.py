"""Values of a request on their way into an argv: no value can become a flag, no file is taken on trust."""

from pathlib import Path
from stat import S_ISREG

from clinvk.errors import ClinvkError

IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


def bound(flag: str, value: str) -> str:
    """`--flag=value`: in one argument a value cannot be read as another flag, whatever it starts with."""
    if "\0" in value:
        raise ClinvkError(
            "invalid_request", f"the value of {flag} holds a NUL character", hint="remove the NUL character"
        )
    return f"{flag}={value}"


def check_extra(backend: str, extra: tuple[str, ...]) -> None:
    """Every flag in `extra` carries its value itself, so that none can swallow what follows."""
    for flag in extra:
        name, _, value = flag.partition("=")
        if not value.strip() or "\0" in value:
            raise ClinvkError(
                "invalid_request",
                f"extra flag {flag!r} has no usable value",
                hint=f"write it as {name}=VALUE",
                backend=backend,
                details={"option": "extra", "value": flag},
            )


def too_long(backend: str, option: str, limit: int, unit: str = "bytes") -> ClinvkError:
    """The error for a value over the CLI's own limit."""
    return ClinvkError(
        "invalid_request",
        f"{option} is too long for {backend}: at most {limit:,} {unit}",
        hint=f"make {option} shorter, or put it into a file of the workdir and name that in the prompt",
        backend=backend,
        details={"option": option, "limit": limit},
    )


def media_type(backend: str, path: Path, max_bytes: int) -> str:
    """The media type of an image that exists, can be read and is not too big."""
    kind = IMAGE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise bad_file(backend, path, f"is no image; accepted: {', '.join(IMAGE_TYPES)}")
    try:
        if not path.is_file():
            raise bad_file(backend, path, "does not exist or is no file")
        size = path.stat().st_size
    except OSError as error:
        raise bad_file(backend, path, f"cannot be read: {error.strerror}") from error
    if size > max_bytes:
        raise bad_file(backend, path, f"has {size:,} bytes; at most {max_bytes:,} are accepted")
    return kind


def comma(backend: str, folder: Path) -> ClinvkError:
    """The error for a folder in whose path the CLI would split an argument."""
    return ClinvkError(
        "invalid_request",
        f"{backend} cannot take files below {str(folder)!r}: there is a comma in the path",
        hint="set CLINVK_HOME to a path without commas",
        backend=backend,
    )


def bad_file(backend: str, path: Path, why: str) -> ClinvkError:
    """The error for a file that cannot be given to the backend."""
    return ClinvkError(
        "invalid_request",
        f"file {str(path)!r} {why}",
        hint="check the path",
        backend=backend,
        details={"option": "files", "value": str(path)},
    )


def present(path: Path) -> bool:
    """Whether there is a file with content at `path`; an unreadable place has none for us."""
    try:
        about = path.stat()
    except OSError:
        return False
    return S_ISREG(about.st_mode) and about.st_size > 0
