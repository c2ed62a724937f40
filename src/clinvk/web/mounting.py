"""How one door is served inside another's application without either knowing the other."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from starlette.types import ASGIApp

from clinvk.tools.app import App


@dataclass(frozen=True, slots=True)
class Mounted:
    """An application that answers at `path`; `close` is called when the server was told to stop."""

    path: str
    app: ASGIApp
    close: Callable[[], None]


Mounting = Callable[[App], AbstractAsyncContextManager[Mounted]]  # open for as long as the server serves
