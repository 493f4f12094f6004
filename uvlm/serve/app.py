"""The pages of `uvlm serve`: a form, how far a CT is, and its draft.

    GET  /                    the form, and the drafts that are there
    POST /cts                 a form with `ct`, a file, and maybe `unlike_training`
    GET  /cts/KEY             how far it is; as JSON if that is asked for
    GET  /cts/KEY/FILE        a file of its draft, such as evidence.html
    POST /cts/KEY/remove      away with it

No page has a script, but for evidence.html, which runs in a sandbox where it can ask for nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from uvlm.drafts.steps import STEPS
from uvlm.pages.html import render
from uvlm.pages.summary import DISCLAIMER
from uvlm.serve.jobs import UNDER_WAY, Job, Jobs
from uvlm.serve.received import ENDINGS, UploadRefused, receive

_STYLE: Final = files("uvlm.pages").joinpath("templates/serve.css").read_text(encoding="utf-8")
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")
_PAGE: Final = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}
_SANDBOX: Final = {"content-security-policy": "sandbox allow-scripts; frame-ancestors 'none'"}
_PAGES: Final = ".html"
_QUIET_S: Final = 30  # without a byte of an upload
_LOOK_S: Final = 2  # between two looks at a CT that is worked on


@dataclass(frozen=True)
class Limits:
    """What is taken, and how long a draft is kept."""

    most_bytes: int
    keep_s: float


def make_app(jobs: Jobs, limits: Limits) -> FastAPI:
    """Make the application; the guard is put around it by uvlm/serve/run.py."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.get("/")
    async def form() -> Response:
        return _form(jobs, limits)

    @app.post("/cts")
    async def upload(request: Request) -> Response:
        return await _upload(request, jobs, limits)

    @app.get("/cts/{key}")
    async def look(key: str, request: Request) -> Response:
        return _look(_found(jobs, key), jobs, "json" in request.headers.get("accept", ""))

    @app.get("/cts/{key}/{name}")
    async def download(key: str, name: str) -> Response:
        return _download(_found(jobs, key), name)

    @app.post("/cts/{key}/remove")
    async def remove(key: str) -> Response:
        await asyncio.to_thread(jobs.remove, key)
        return RedirectResponse("/", status_code=303)

    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(Exception, _bug)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """Answer an address that is none, without repeating it."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _line(status, "There is nothing here." if status == 404 else "Not possible here.")


async def _bug(request: Request, error: Exception) -> Response:
    return _line(500, f"A bug ({type(error).__name__}); please report it.")


def _line(status: int, line: str) -> Response:
    page = {"line": line, "style": _STYLE, "disclaimer": DISCLAIMER}
    return HTMLResponse(render("serve_line.html.j2", page), status, headers=dict(_PAGE))


def _form(jobs: Jobs, limits: Limits, status: int = 200, refusal: str = "") -> Response:
    page = {
        "style": _STYLE,
        "disclaimer": DISCLAIMER,
        "refusal": refusal,
        "endings": ENDINGS,
        "limit_mb": limits.most_bytes >> 20,
        "keep_minutes": round(limits.keep_s / 60),
        "jobs": [_shown(job, jobs) for job in jobs.all()],
    }
    return HTMLResponse(render("serve_form.html.j2", page), status, headers=dict(_PAGE))


async def _upload(request: Request, jobs: Jobs, limits: Limits) -> Response:
    job, chunks = jobs.reserve(), _chunks(request)
    if job is None:
        await _drain(chunks, limits.most_bytes)
        told = _form(jobs, limits, 503, "Another CT is worked on and one waits; try again later.")
        told.headers["retry-after"] = "60"
        return _closed(told)
    try:
        content_type = request.headers.get("content-type", "")
        taken = await receive(chunks, content_type, job.folder, limits.most_bytes)
    except (UploadRefused, OSError) as error:
        jobs.remove(job.key)
        await _drain(chunks, limits.most_bytes)
        full = UploadRefused(507, "There is no room for this file.")
        refusal = error if isinstance(error, UploadRefused) else full
        return _closed(_form(jobs, limits, refusal.status, refusal.line))
    except BaseException:  # the browser has gone, or this program ends
        jobs.remove(job.key)
        raise
    jobs.submit(job, taken.finish(), unlike_training=taken.fields.get("unlike_training") == "yes")
    return RedirectResponse(f"/cts/{job.key}", status_code=303)


async def _drain(chunks: AsyncIterator[bytes], most: int) -> None:
    """Read what is left of a refused upload: a browser that still sends would not see why."""
    with suppress(UploadRefused):
        async for chunk in chunks:
            most -= len(chunk)
            if most < 0:
                return


def _closed(response: Response) -> Response:
    """Close the connection after an answer: more than the limit is not read."""
    response.headers["connection"] = "close"
    return response


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield an upload as it comes, as long as it comes."""
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), _QUIET_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadRefused(408, "The upload has stopped.") from None
        yield chunk


def _found(jobs: Jobs, key: str) -> Job:
    job = jobs.find(key)
    if job is None:
        raise HTTPException(404)
    return job


def _shown(job: Job, jobs: Jobs) -> dict[str, Any]:
    """Say of an upload what a page shows."""
    made, done = _files(job), list(dict.fromkeys(job.steps))
    return {
        "number": job.number,
        "key": job.key,
        "state": job.state,
        "line": job.line,
        "steps": [{"name": name, "is_done": name in done} for name in STEPS],
        "files": made,
        "evidence": next((name for name in made if name.endswith(_PAGES)), ""),
        "minutes_left": jobs.minutes_left(job),
    }


def _files(job: Job) -> list[str]:
    """Name the files of a draft that is there; `predict` named them, so no name is foreign."""
    if job.ended is None or not job.out.is_dir():
        return []
    return sorted(path.name for path in job.out.iterdir() if path.is_file())


def _look(job: Job, jobs: Jobs, as_json: bool) -> Response:
    shown = _shown(job, jobs)
    if as_json:
        return JSONResponse(shown)
    under_way = job.state in UNDER_WAY
    page = shown | {"style": _STYLE, "disclaimer": DISCLAIMER, "under_way": under_way}
    told = HTMLResponse(render("serve_job.html.j2", page), headers=dict(_PAGE))
    if under_way:
        told.headers["refresh"] = str(_LOOK_S)
    return told


def _download(job: Job, name: str) -> Response:
    if name not in _files(job):
        raise HTTPException(404)
    path = job.out / name
    if name.endswith(_PAGES):
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=dict(_SANDBOX))
    return FileResponse(path, filename=name, media_type="application/octet-stream")
