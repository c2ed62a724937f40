"""The command line: global flags, the verbs with theirs, and the prompt that needs no verb."""

import argparse
from collections.abc import Mapping
from typing import NoReturn, Protocol

from clinvk import __version__
from clinvk.cli import (
    backends,
    chain,
    compare,
    completion,
    config,
    demo,
    doctor,
    install,
    keys,
    mcp,
    options,
    parallel,
    prompt,
    resume,
    runs,
    serve,
    sessions,
    version,
)
from clinvk.cli.call import Call

_USAGE = """clinvk [PROMPT] [flags]
       clinvk VERB [flags]"""
_EPILOG = """\
The flags above are those of a prompt; `clinvk prompt --help` tells all of them. Other verbs take -q, -o and --config,
and what they can use of the others. Flags may stand before or after the verb, a verb's own after it.

exit codes: 0 ok, 1 general, 2 backend not available, 3 configuration, 4 session, 5 API, 6 timeout, 7 cancelled,
otherwise the backend's own

First steps: clinvk doctor, clinvk demo, clinvk "what does this project do?"
"""
_NEAR = 0.8  # how much a word must be like a verb to be taken for a slip rather than for a prompt


class Verb(Protocol):
    """A module of `clinvk.cli` that is one command. It imports what it needs when it runs, not before."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module constant
    @property
    def HELP(self) -> str: ...  # noqa: N802

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Its own flags; a `description` for its help."""
        ...

    def run(self, call: Call) -> int:
        """Do it; the exit code. Raises ClinvkError."""
        ...


_MODULES: tuple[Verb, ...] = (
    prompt,
    resume,
    parallel,
    chain,
    compare,
    sessions,
    runs,
    mcp,
    serve,
    keys,
    install,
    backends,
    doctor,
    config,
    demo,
    completion,
    version,
)
VERBS: Mapping[str, Verb] = {verb.NAME: verb for verb in _MODULES}
_RESULTLESS = frozenset({mcp.NAME, serve.NAME, completion.NAME})  # what they write has its own form: no -o
_FREE = frozenset({prompt.NAME, resume.NAME, compare.NAME})  # flags may stand between their words


class UsageError(Exception):
    """The command line cannot be understood."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


class Commands:
    """The parser of every command, and those of the verbs below it.

    A verb gets its arguments when it is asked for: a command line needs those of one or two, and making all of them
    takes longer than most commands.
    """

    def __init__(self) -> None:
        self.root = _Parser(
            prog="clinvk",
            usage=_USAGE,
            description="Use every AI agent CLI on this machine through one command, and through one MCP server.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.root.add_argument("--version", action="version", version=f"clinvk {__version__}")
        self.root.set_defaults(config=None, quiet=False, output_format=None)
        prompt.add_main_flags(self.root)
        options.shared(self.root)
        below = self.root.add_subparsers(
            dest="verb", metavar="VERB", title="verbs", parser_class=_Parser, prog="clinvk"
        )
        self._bare = {
            name: below.add_parser(
                name, help=verb.HELP, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
            )
            for name, verb in VERBS.items()
        }
        self._complete: dict[str, argparse.ArgumentParser] = {}

    def verb(self, name: str) -> argparse.ArgumentParser:
        """The parser of a verb with its arguments."""
        if name not in self._complete:
            parser = self._complete[name] = self._bare[name]
            VERBS[name].add_arguments(parser)
            options.shared(parser, result=name not in _RESULTLESS)
        return self._complete[name]

    def whole(self) -> argparse.ArgumentParser:
        """The parser of every command with all that is below it, and of every flag that may stand before the verb."""
        for name in VERBS:
            self.verb(name)
        prompt.add_more_flags(self.root)
        return self.root

    def completing(self, words: list[str]) -> argparse.ArgumentParser:
        """The parser of what follows `words`: a verb may still come, unless they hold a prompt already."""
        place = options.first_word(words, options.known(self.verb(prompt.NAME)))
        return self.whole() if place is None or words[place] in VERBS else self.verb(prompt.NAME)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """The command line's meaning."""
        words = self.arranged(argv)
        if words and words[0] in VERBS:
            self.verb(words[0])
        args, rest = self.root.parse_known_args(words)
        if rest:
            raise self._unknown(args, rest)
        return args

    def _unknown(self, args: argparse.Namespace, rest: list[str]) -> UsageError:
        """The error for flags and words that a verb does not take: none of them is ignored."""
        place = " ".join(filter(None, (args.verb, getattr(args, "action", None))))
        flag = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
        if flag is None:
            return UsageError(f"{place} takes no argument {rest[0]!r}", f"see clinvk {place} --help")
        from difflib import get_close_matches  # only for who mistyped

        near = get_close_matches(flag, options.known(self.verb(args.verb)), n=1)
        later = next((word for word in getattr(args, "words", ()) if word in VERBS), None)
        meant = f"did you mean {near[0]}? " if near else f"flags of {later} alone stand after it; " if later else ""
        dashed = "; a prompt that begins with a dash follows --" if args.verb in _FREE else ""
        return UsageError(f"{place} takes no {flag}", f"{meant}see clinvk {place} --help{dashed}")

    def arranged(self, argv: list[str]) -> list[str]:
        """The same command line with its verb first. Raises UsageError for a word that looks like a slip."""
        place = options.first_word(argv, options.known(self.verb(prompt.NAME)))
        word = None if place is None else argv[place]
        if place is None or word is None:
            return argv if {"-h", "--help", "--version"} & set(argv) else [prompt.NAME, *argv]
        before, after = argv[:place], argv[place + 1 :]
        if word == "help":
            return [*after, "--help"]
        if word not in VERBS:
            _check_slip(word, argv)
            return self._flags_first(prompt.NAME, argv)
        if word in _FREE:
            return self._flags_first(word, [*before, *after])
        end = after.index("--") if "--" in after else len(after)
        return [word, *after[:end], *before, *after[end:]]

    def _flags_first(self, verb: str, argv: list[str]) -> list[str]:
        """argparse does not take words on both sides of a flag."""
        flags = options.known(self.verb(verb))
        leading: list[str] = []
        words: list[str] = []
        while (place := options.first_word(argv, flags)) is not None:
            leading += argv[:place]
            if argv[place] == "--":
                words, argv = [*words, *argv[place + 1 :]], []
            else:
                words, argv = [*words, argv[place]], argv[place + 1 :]
        return [verb, *leading, *argv, *(["--", *words] if words else [])]


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line's meaning. Raises UsageError; SystemExit after `--help` and `--version`."""
    return Commands().parse(argv)


def _check_slip(word: str, argv: list[str]) -> None:
    if any(character.isspace() for character in word) or "--" in argv:
        return
    from difflib import get_close_matches  # only for who mistyped

    near = get_close_matches(word, VERBS, n=1, cutoff=_NEAR)
    if near:
        raise UsageError(
            f"no verb {word!r}", f"did you mean {near[0]!r}? As a prompt it would be: clinvk prompt {word}"
        )
