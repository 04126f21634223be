"""`peira doctor`: versions, keys, endpoints; what to mend, in one line each."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

from peira.cli import flags

EXTRAS = {"local": ("torch", "transformers"), "ray": ("ray",), "slurm": ("submitit",),
          "wandb": ("wandb",), "parquet": ("pyarrow",), "providers": ("pydantic_ai",)}  # fmt: skip
SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    state: Literal["ok", "off", "bad"]
    words: str
    remedy: str = ""


def command(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(help="Models or a study file: one tiny call to each is made and paid for."),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network/--no-network", help="Ask the endpoints whose key is set.")
    ] = True,
    json: flags.Json = False,
) -> int:
    """Check this machine, the keys and the endpoints. Without names only free questions are asked
    (each provider's list of models). Exit 3 if something that is set up does not work."""
    from peira.cli.display import as_json, say

    checks = [*_machine(), *_extras()]
    checks += asyncio.run(_endpoints()) if network else []
    checks += asyncio.run(_subjects(subjects or []))
    if json:
        as_json([asdict(check) for check in checks])
    else:
        marks = {"ok": "ok ", "off": "-  ", "bad": "BAD"}
        for check in checks:
            remedy = f"\n      remedy: {check.remedy}" if check.remedy else ""
            say(f"{marks[check.state]} {check.what}: {check.words}{remedy}")
    return 3 if any(check.state == "bad" for check in checks) else 0


# -- this machine -------------------------------------------------------------------------------
def _machine() -> list[Check]:
    import sqlite3
    from importlib.metadata import version
    from pathlib import Path

    from peira import __version__
    from peira.engine.mounts import is_network_mount

    aiohttp, prices = version("aiohttp"), version("genai-prices")
    words = f"Python {platform.python_version()}, aiohttp {aiohttp}, genai-prices {prices}"
    checks = [Check("peira", "ok", f"{__version__}; {words}; SQLite {sqlite3.sqlite_version}")]
    if is_network_mount(Path.cwd()):
        checks.append(Check("disk", "ok", "a network mount: run.db keeps a rollback journal",
                            "a local disk is faster: --output-dir"))  # fmt: skip
    return checks


def _extras() -> list[Check]:
    checks = []
    for extra, modules in EXTRAS.items():
        there = all(importlib.util.find_spec(module) is not None for module in modules)
        remedy = "" if there else f"pip install 'peira[{extra}]'"
        words = "installed" if there else "not installed (only if you need it)"
        checks.append(Check(f"extra {extra}", "ok" if there else "off", words, remedy))
    return checks


# -- endpoints ----------------------------------------------------------------------------------
async def _endpoints() -> list[Check]:
    """Every provider's list of models, which costs nothing and needs a valid key."""
    from peira.subjects.catalogue import catalogue
    from peira.subjects.wire.client import HttpClient

    client = HttpClient()
    try:
        return list(
            await asyncio.gather(
                *(_endpoint(client, name, each) for name, each in catalogue().providers.items())
            )
        )
    finally:
        await client.close()


async def _endpoint(client: Any, name: str, provider: Any) -> Check:
    from peira.errors import PeiraError
    from peira.subjects.keys import find_key
    from peira.subjects.wire import DIALECTS
    from peira.subjects.wire.http import error_of

    what = f"provider {name}"
    variable = next((each for each in provider.keys if find_key(each)), None)
    if provider.keys and variable is None:
        return Check(what, "off", f"no key (export {' or '.join(provider.keys)}=…)")
    headers = DIALECTS[provider.wire]().auth(find_key(variable) or "") if variable else {}
    try:
        url = f"{provider.base_url}/models"
        answer = await client.send("GET", url, headers=headers, timeout=SECONDS)
        if answer.status >= 300:
            raise error_of(answer)
    except PeiraError as error:
        if provider.local:
            return Check(what, "off", f"no server at {provider.base_url}")
        return Check(what, "bad", f"{variable} is set, but: {error}", _remedy(str(error), variable))
    return Check(
        what, "ok", f"answers at {provider.base_url}" + (f" ({variable})" if variable else "")
    )


def _remedy(words: str, variable: str | None, base_url: str = "") -> str:
    from peira.subjects.cards import is_loopback

    if "HTTP 401" in words or "HTTP 403" in words or "HTTP 400" in words:
        if variable is None:
            return "the server wants a key: name its variable with api_key_env"
        return f"the key was refused: make a new one and export {variable}=…"
    if "HTTP 404" in words:
        return "check the model's id and base_url"
    if "cannot connect" in words and is_loopback(base_url):
        return f"start the server, or mend base_url ({base_url})"
    if "HTTP 402" in words or "quota" in words or "credit" in words:
        return "add credit to the account, or use another provider"
    if "cannot connect" in words or "timed out" in words:
        return "check the network, HTTPS_PROXY and firewalls"
    return "see the provider's status page, then try again"


# -- subjects -----------------------------------------------------------------------------------
async def _subjects(names: list[str]) -> list[Check]:
    from peira.subjects.registry import Outlets

    if not names:
        return []
    wanted: dict[str, dict[str, Any]] = {}
    for name in names:
        wanted.update(_of_study(name) if name.endswith((".yaml", ".yml")) else {name: {}})
    outlets = Outlets()
    try:
        return list(
            await asyncio.gather(*(_subject(name, over, outlets) for name, over in wanted.items()))
        )
    finally:
        await outlets.close()


def _of_study(file: str) -> dict[str, dict[str, Any]]:
    from peira.api import ask
    from peira.subjects.simulated import PREFIX

    question = ask(file)
    names = {
        name for cell in question.cells() for name in question.family.seats(cell.settings).values()
    }
    return {name: question.study.subjects.get(name, {}) for name in sorted(names)
            if not name.startswith(PREFIX)}  # fmt: skip


async def _subject(name: str, overrides: dict[str, Any], outlets: Any) -> Check:
    from peira.errors import PeiraError
    from peira.subjects.registry import open_model
    from peira.subjects.subject import Message, Request, Sampling

    what = f"subject {name}"
    details: Mapping[str, Any] = {}
    try:
        route = open_model(name, overrides, outlets=outlets)
        details = route.details
        sampling = route.sampled(Sampling(max_tokens=16))
        request = Request(route.model, (Message("user", "Say ok."),), sampling)
        reply = await asyncio.wait_for(route.wire.send(request), 4 * SECONDS)
        await route.wire.close()
    except TimeoutError:
        return Check(what, "bad", f"no answer in {4 * SECONDS:.0f} s", "check the endpoint")
    except PeiraError as error:
        head, _, rest = str(error).partition("\n")
        remedy = rest.rpartition("remedy: ")[2].strip() or _remedy(
            head, details.get("key"), details.get("base_url", "")
        )
        return Check(what, "bad", head, remedy)
    cost = route.price.cost(reply) / 1e6 if route.price is not None else 0.0
    words = f"{reply.finish}, {reply.usage.total_tokens} tokens, ${cost:.6f}"
    return Check(what, "ok", f"{reply.served_model or route.model} answers ({words})")
