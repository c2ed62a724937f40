"""One call of `clinvk`: its flags, its environment and where it writes."""

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clinvk.cli.console import Console

if TYPE_CHECKING:  # a command that needs no configuration must not pay for it
    from pathlib import Path

    from clinvk.config.cascade import Loaded


class Call:
    """What a verb is given."""

    __slots__ = ("args", "console", "environ", "format")

    def __init__(self, args: Namespace, environ: Mapping[str, str]) -> None:
        self.args = args
        self.environ = environ
        self.console = Console(quiet=args.quiet)
        self._choose(args.output_format or "text")

    def _choose(self, format_: str) -> None:
        self.format = format_
        self.console.one_line = format_ == "stream-json"

    @property
    def config_path(self) -> "Path | None":
        """The file that `--config` names."""
        from pathlib import Path

        return Path(self.args.config) if self.args.config is not None else None

    def loaded(self, flags: Mapping[str, object] | None = None) -> "Loaded":
        """The configuration, `flags` being dotted keys (None: not given). Raises ConfigError.

        What has no effect in it is noted.
        """
        from clinvk.backends import registry
        from clinvk.config import cascade

        loaded = cascade.load(
            self.environ,
            known_backends=registry.BACKENDS,
            flags={"output.format": self.args.output_format, **(flags or {})},
            path=self.config_path,
        )
        self._choose(loaded.config.output.format)
        for warning in loaded.warnings:
            self.console.note(f"clinvk: warning: {warning}")
        return loaded

    def wants_json(self, loaded: "Loaded | None" = None) -> bool:
        """Whether the result is to be JSON; a command without a stream writes stream-json as one document."""
        return (loaded.config.output.format if loaded is not None else self.format) in ("json", "stream-json")
