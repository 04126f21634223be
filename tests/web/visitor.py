"""A visitor without a browser: asks the application over ASGI, and reads pages as a browser would."""

import asyncio
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

TOKEN = "t0ken-of-the-tests"
HOST = "127.0.0.1:8321"
OWN = {"host": HOST, "cookie": f"peira-view={TOKEN}", "sec-fetch-site": "same-origin"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(app, address, *, method="GET", headers=None, body=b"", known=True) -> Answer:
    """One request. `known`: with this server's cookie, as one of its own pages would ask."""
    parts = urlsplit(address)
    sent = ({**OWN} if known else {"host": HOST}) | (headers or {})
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": _unquoted(parts.path),
        "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "scheme": "http",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in sent.items()],
        "server": ("127.0.0.1", 8321), "client": ("127.0.0.1", 9), "root_path": "",
    }  # fmt: skip
    return asyncio.run(_ask(app, scope, body))


def _unquoted(path):
    from urllib.parse import unquote

    return unquote(path)


async def _ask(app, scope, body):
    got = {"body": b""}
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(sent, None) or await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.start":
            got["status"] = message["status"]
            got["headers"] = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            got["body"] += message.get("body", b"")

    await app(scope, receive, send)
    return Answer(got["status"], got["headers"], got["body"])


@dataclass
class Markup(HTMLParser):
    """What a browser would make of a page: its elements, attributes and addresses."""

    tags: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")
            if name == "style":
                self.styles.append(f"{tag} {value}")
            if name in ("href", "src", "action", "hx-get", "hx-post", "sse-connect", "data-href"):
                (self.scripts if tag == "script" else self.links).append(value or "")
        if tag == "script" and "src" not in dict(attributes):
            self.scripts.append("inline")

    def handle_data(self, data):
        self.words.append(data)


def read(page: str) -> Markup:
    markup = Markup()
    markup.feed(page)
    return markup
