"""/docs: a page that shows /openapi.json and can send requests. It loads nothing from elsewhere: no internet needed."""

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

PATH = "/docs"
FILES = {
    PATH: ("index.html", "text/html"),
    f"{PATH}/page.js": ("page.js", "text/javascript"),
    f"{PATH}/style.css": ("style.css", "text/css"),
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"


def endpoint(path: str) -> Callable[[Request], Awaitable[Response]]:
    """One of the page's files."""
    name, media_type = FILES[path]
    content = resources.files("clinvk.gateway").joinpath("page", name).read_bytes()

    async def show(_request: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return Response(content, media_type=media_type, headers=headers)

    return show
