"""The web client's files: pages under a strict content security policy, static files, the two of PixiJS from npm."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.origins import Origins

WEB_CLIENT = Path(__file__).parents[1] / "web_client"
_VENDOR = {"pixi.min.js": "pixi.min.js", "unsafe-eval.min.js": "packages/unsafe-eval.min.js"}
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_MISSING = b"""<!doctype html><meta charset="utf-8"><title>Project K</title>
<h1>The web client's packages are missing</h1>
<p>The server runs, but its page needs PixiJS from npm. In the project's folder type <code>make setup</code>
(or <code>npm ci --ignore-scripts</code>) and load this page again.</p>"""
_HIDDEN = ("node_modules", "package.json", "package-lock.json", "tsconfig.json")


def script_hashes(html: bytes) -> list[str]:
    """Sources for ``script-src`` that allow exactly the inline scripts (import maps) of this page."""
    digests = [hashlib.sha256(body).digest() for body in _INLINE_SCRIPT.findall(html)]
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def content_security_policy(html: bytes, gateways: list[str]) -> str:
    """``gateways``: base URLs a page may connect to, besides its own."""
    sockets = [re.sub("^http", "ws", url) for url in gateways]
    connect = " ".join(["'self'", *gateways, *sockets])
    script = " ".join(["'self'", *script_hashes(html)])
    return (
        f"default-src 'none'; script-src {script}; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
        f"worker-src 'self' blob:; connect-src {connect}; manifest-src 'self'; media-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class ClientFiles(StaticFiles):
    """/static/: the folder web_client, without its packages and tools' files; revalidated on every load."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        parts = Path(path).parts
        if not parts or parts[0] in _HIDDEN or any(part.startswith(".") for part in parts):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


class Pages:
    """Routes of the web client in ``folder``."""

    def __init__(self, origins: Origins, folder: Path = WEB_CLIENT) -> None:
        self._origins = origins
        self._folder = folder

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.play),
            Route("/observe", self.observe),
            Route("/favicon.ico", self.icon),
            Route("/static/vendor/{name}", self.vendor),
            Mount("/static", ClientFiles(directory=self._folder, check_dir=False)),
        ]

    def play(self, _request: Request) -> Response:
        if any(self._vendor(name) is None for name in _VENDOR):
            return self._page(_MISSING, 503)
        return self._file("play.html")

    def observe(self, _request: Request) -> Response:
        return self._file("observe/index.html")

    def icon(self, _request: Request) -> Response:
        icon = self._folder / "icon.svg"
        return FileResponse(icon) if icon.is_file() else Response(status_code=204)

    def vendor(self, request: Request) -> Response:
        path = self._vendor(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, headers={"cache-control": "no-cache"}, media_type="text/javascript")

    def _vendor(self, name: str) -> Path | None:
        """From the npm packages beside the web client, or beside the project."""
        for root in (self._folder, self._folder.parent):
            path = root / "node_modules" / "pixi.js" / "dist" / _VENDOR.get(name, "\0")
            if name in _VENDOR and path.is_file():
                return path
        return None

    def _file(self, name: str) -> Response:
        try:
            html = (self._folder / name).read_bytes()
        except OSError as error:
            raise HTTPException(404) from error
        return self._page(html)

    def _page(self, html: bytes, status: int = 200) -> Response:
        policy = content_security_policy(html, self._origins.gateways())
        headers = {"content-security-policy": policy, "cache-control": "no-cache"}
        return HTMLResponse(html, status, headers)
