"""The desk: where a person in a seat reads the question and answers it."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from peira.errors import InputError
from peira.web.desk import Mailbox, read_form
from peira.web.page import Pages, address, answer, opened
from peira.web.run import frame

MAX_ANSWER = 200_000  # bytes of a posted form


def page(request: Request) -> HTMLResponse:
    """Every question that waits in this run."""
    key, view = opened(request)
    with view:
        context = frame(key, view) | {"questions": Mailbox(view.path).waiting()}
    return answer(request, "desk.html", fault="", given={}, **context)


async def answer_form(request: Request) -> dict[str, str]:
    """The posted blanks. Raises InputError for a form that is too long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_ANSWER:
            raise InputError(f"the answer is longer than {MAX_ANSWER:,} bytes")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


async def answer_post(request: Request) -> Response:
    """Take an answer: durable before the page says so. An unusable one comes back with its fault."""
    given = await answer_form(request)
    key, view = opened(request)
    with view:
        box = Mailbox(view.path)
        question = next((q for q in box.waiting() if q.id == given.get("question")), None)
        if question is None:
            return RedirectResponse(address("desk", key), status_code=303)
        try:
            box.answer(question.id, read_form(question, given))
        except InputError as error:
            pages: Pages = request.app.state.pages
            context = frame(key, view) | {
                "questions": box.waiting(),
                "fault": str(error),
                "given": given,
            }
            return HTMLResponse(pages.render("desk.html", request, **context), status_code=400)
    return RedirectResponse(address("desk", key), status_code=303)
