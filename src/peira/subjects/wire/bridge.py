"""Providers without a wire of ours (Bedrock, Vertex, Cohere, …) through pydantic-ai's model layer.

`pydantic-ai:PROVIDER:MODEL`, e.g. `pydantic-ai:bedrock:anthropic.claude-3-haiku-20240307-v1:0`. An
optional extra: slower by an order of magnitude than a wire, and the model layer only, no agents.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from peira.errors import InputError, MissingExtra, ProviderStop, RateLimited, TransientError
from peira.subjects.keys import scrub
from peira.subjects.pace import SharedPace
from peira.subjects.prices import PriceOptions, stated_price
from peira.subjects.route import Route
from peira.subjects.subject import Finish, Reply, Request, Usage
from peira.subjects.wire.dialect import Endpoint, Fit, finished, seed_of

if TYPE_CHECKING:
    from peira.subjects.options import SubjectOptions

PREFIX = "pydantic-ai:"
CARRIES = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed"})
FINISH: dict[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "refusal"}


class PydanticAIWire:
    """Implements `Wire` over one pydantic-ai Model."""

    free = False

    def __init__(self, model: Any, endpoint: Endpoint) -> None:
        self.model = model
        self.endpoint = endpoint

    async def send(self, request: Request) -> Reply:
        """One attempt; pydantic-ai's errors become ours."""
        from pydantic_ai import direct, exceptions

        try:
            response = await direct.model_request(
                self.model, _messages(request), model_settings=self._settings(request)
            )
        except exceptions.ModelHTTPError as error:
            raise _error(error.status_code, scrub(str(error))) from error
        except (exceptions.AgentRunError, OSError) as error:
            raise TransientError(scrub(str(error)), lost=True) from error
        return _reply(response)

    async def close(self) -> None:
        return None

    def _settings(self, request: Request) -> Any:
        sampling = asdict(request.sampling)
        settings = {name: sampling[name] for name in ("temperature", "top_p", "max_tokens")}
        settings["stop_sequences"] = list(request.sampling.stop) or None
        settings["seed"] = seed_of(request, self.endpoint)
        settings["timeout"] = self.endpoint.timeout
        return {name: value for name, value in settings.items() if value is not None}


def _messages(request: Request) -> list[Any]:
    from pydantic_ai import messages as m

    made: list[Any] = []
    for message in request.messages:
        if message.role == "assistant":
            made.append(m.ModelResponse(parts=[m.TextPart(message.content)]))
        else:
            kind = m.SystemPromptPart if message.role == "system" else m.UserPromptPart
            made.append(m.ModelRequest(parts=[kind(message.content)]))
    return made


def _reply(response: Any) -> Reply:
    text = "".join(p.content for p in response.parts if p.part_kind == "text")
    reasoning = "".join(p.content for p in response.parts if p.part_kind == "thinking")
    usage = response.usage
    return Reply(
        text,
        reasoning,
        Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
              usage.cache_write_tokens),
        finished(FINISH.get(response.finish_reason or "stop", "stop"), text),
        response.model_name or "",
        response.provider_response_id or "",
    )  # fmt: skip


def _error(status: int, text: str) -> Exception:
    if status == 429:
        return RateLimited(text)
    return TransientError(text) if status >= 500 or status == 408 else ProviderStop(text)


def open_bridge(name: str, options: SubjectOptions) -> Route:
    """The route of a `pydantic-ai:` name. Raises MissingExtra without the extra `providers`."""
    try:
        from pydantic_ai import exceptions, models
    except ImportError:
        raise MissingExtra(f"subject {name!r}", "providers") from None
    try:
        model = models.infer_model(name.removeprefix(PREFIX))
    except (exceptions.UserError, ValueError, ImportError) as error:
        raise InputError(f"subject {name!r}: {scrub(str(error))}") from error
    price = None
    if isinstance(options.price, PriceOptions):
        price = replace(stated_price(name, options.price, "study"), max_output=options.max_output,
                        context_window=options.context_window)  # fmt: skip
    endpoint = Endpoint(name, "pydantic-ai", "", model.model_name, options.timeout)
    return Route(
        name, PydanticAIWire(model, endpoint), model.model_name, "pydantic-ai", price=price,
        pace=SharedPace(name, options), durable=True, sampling=options.sampling,
        fit=Fit(name, "pydantic-ai", CARRIES, allow_drop=frozenset(options.allow_drop)),
        details={"wire": "pydantic-ai", "free": options.price == "free"},
    )  # fmt: skip
