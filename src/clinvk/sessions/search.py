"""What a query means: every word must occur, as a substring and in any case; a "quoted phrase" is one word."""

import re

from clinvk.errors import ClinvkError

SNIPPET_CHARS = 200
_BEFORE_CHARS = 60
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')


def fold(text: str) -> str:
    """`text` as it is compared."""
    return text.casefold().replace("\0", " ")


def terms(query: str) -> list[str]:
    """The folded words and phrases of a query. Raises `invalid_request` when there are none."""
    found = [fold(phrase or word) for phrase, word in _TERM.findall(query)]
    unique = list(dict.fromkeys(term for term in found if term.strip()))
    if not unique:
        raise ClinvkError(
            "invalid_request",
            f"query {query!r} has no words to search for",
            hint='give words that must all occur, or a "quoted phrase"',
            details={"field": "query", "value": query},
        )
    return unique


def snippet(text: str, wanted: list[str]) -> str:
    """About 200 characters of `text` around the first of the terms that occurs in it, on one line."""
    at = next((place for term in wanted if (place := _find(text, term)) >= 0), 0)
    start = max(0, at - _BEFORE_CHARS)
    end = min(len(text), start + SNIPPET_CHARS)
    piece = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{piece}{'…' if end < len(text) else ''}"


def _find(text: str, term: str) -> int:
    if found := re.search(re.escape(term), text, re.IGNORECASE):
        return found.start()
    # Folding may change the length of what stands before, so this place is only near the match.
    return min(fold(text).find(term), len(text))
