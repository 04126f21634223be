"""Models in this process and behind `transformers serve`: tiny ones, made here."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from peira.errors import InputError, TrialFailed
from peira.subjects.registry import Outlets, open_model
from peira.subjects.subject import Message, Request, Sampling

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
WORDS = [f"w{k}" for k in range(60)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random Llama of two layers with a word-level tokenizer and a chat template."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny")
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {word: k for k, word in enumerate([*special, "user", "assistant", ":", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %} {{ m.role }} : {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %} assistant :{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=1, eos_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def ask(text: str, seed: int = 1, **sampling) -> Request:
    settings = {"temperature": 0.0, "max_tokens": 12, **sampling}
    return Request("m", (Message("user", text),), Sampling(**settings), seed=seed)


def mixed() -> list[Request]:
    """Prompts and answers of many lengths."""
    return [
        ask(" ".join(WORDS[k : k + 1 + 3 * (k % 5)]), k, max_tokens=2 + 5 * (k % 4),
            temperature=0.9 if k % 2 else 0.0, top_k=20 if k % 3 else None)
        for k in range(14)
    ]  # fmt: skip


async def answers(tiny, requests, **local) -> list[tuple[str, str]]:
    route = open_model(f"hf:{tiny}", {"local": {"device": "cpu", "dtype": "float32", **local}})
    try:
        replies = await asyncio.gather(*(route.wire.send(request) for request in requests))
    finally:
        await route.wire.close()
    return [(reply.text, reply.finish) for reply in replies]


async def test_greedy_answers_are_transformers_own(tiny):
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    for text in ("w1 w2 w3", "w9"):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt",
            return_dict=True,
        )  # fmt: skip
        made = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
        expected = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (await answers(tiny, [ask(text)]))[0][0] == expected


async def test_an_answer_does_not_depend_on_what_shares_its_batch(tiny):
    alone = [(await answers(tiny, [request]))[0] for request in mixed()]
    assert await answers(tiny, mixed(), max_batch=14) == alone
    assert await answers(tiny, mixed(), max_batch=3) == alone
    assert len(set(alone)) > 8 and {finish for _, finish in alone} >= {"length"}


async def test_requests_side_by_side_share_their_passes_through_the_model(tiny):
    route = open_model(f"hf:{tiny}", {"local": {"device": "cpu", "dtype": "float32"}})
    await route.wire.send(ask("w1", max_tokens=1))
    widths: list[int] = []
    route.wire._model.model.register_forward_hook(
        lambda module, args, kwargs, out: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    requests = [ask(f"w{k} w{k + 1}", k, max_tokens=20) for k in range(12)]
    await asyncio.gather(*(route.wire.send(request) for request in requests))
    await route.wire.close()
    assert max(widths) > 9 and len(widths) < 30, "alone they would take 240"


async def test_late_requests_join_a_batch_under_way(tiny):
    route = open_model(f"hf:{tiny}", {"local": {"device": "cpu", "dtype": "float32"}})
    first = asyncio.create_task(route.wire.send(ask("w1 w2", max_tokens=100)))
    while route.wire._model is None:
        await asyncio.sleep(0.001)
    second = await route.wire.send(ask("w3", max_tokens=3))
    longer = await first
    await route.wire.close()
    assert [(second.text, second.finish)] == await answers(tiny, [ask("w3", max_tokens=3)])
    assert [(longer.text, longer.finish)] == await answers(tiny, [ask("w1 w2", max_tokens=100)])


async def test_calls_given_up_while_they_wait_leave_no_other_waiting(tiny):
    route = open_model(f"hf:{tiny}", {"local": {"max_batch": 2, "device": "cpu"}})
    await route.wire.send(ask("w1", max_tokens=1))
    calls = [asyncio.create_task(route.wire.send(ask(f"w{k}", max_tokens=2))) for k in range(40)]
    await asyncio.sleep(0)
    for call in calls[:38]:
        call.cancel()
    replies = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    await route.wire.close()
    assert [isinstance(reply, BaseException) for reply in replies] == [True] * 38 + [False] * 2


async def test_stop_words_seeds_and_lengths(tiny):
    ((whole, _),) = await answers(tiny, [ask("w5 w6", max_tokens=20)])
    stop = whole.split()[4]
    ((cut, finish),) = await answers(tiny, [ask("w5 w6", max_tokens=20, stop=(stop,))])
    assert whole.startswith(cut) and stop not in cut.split() and finish == "stop"
    hot = {"temperature": 1.5, "max_tokens": 10}
    pair = [ask("w1", 1, **hot), ask("w1", 2, **hot), ask("w1", 1, **hot)]
    one, two, again = await answers(tiny, pair)
    assert one == again != two


async def test_a_prompt_beyond_the_window_fails_its_trial(tiny):
    with pytest.raises(TrialFailed, match="128"):
        await answers(tiny, [ask(" ".join(WORDS * 3))])


def test_what_generation_cannot_do_is_refused(tiny):
    route = open_model(f"hf:{tiny}")
    assert route.free and route.provider == "local"
    with pytest.raises(InputError, match="json_mode"):
        route.fit(Sampling(json_mode=True))
    for wrong in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 2.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            route.fit(Sampling(**wrong))
    with pytest.raises(InputError, match="max_batch"):
        open_model(f"hf:{tiny}", {"local": {"max_batch": 0}})


async def test_transformers_serve_is_a_subject(tiny):
    """A real OpenAI-compatible server, started here."""
    port = _free_port()
    with _serving(tiny, port):
        outlets = Outlets()
        options = {"base_url": f"http://127.0.0.1:{port}/v1", "model": str(tiny)}
        route = open_model("served", options, outlets=outlets)
        reply = await route.wire.send(
            Request(
                route.model, (Message("user", "w1 w2"),), Sampling(max_tokens=8, temperature=0.0)
            )
        )
        await outlets.close()
    assert reply.text and reply.finish in ("length", "stop")
    assert reply.served_model


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _serving(tiny, port: int):
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tiny),
               "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]  # fmt: skip
    # Where the server's own dependencies (transformers[serving]) are kept apart from ours.
    extra = os.environ.get("PEIRA_SERVING_PATH", "")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": extra}  # fmt: skip
    log = tiny / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        if not _answers(port, process):
            pytest.skip(f"transformers serve did not start: {log.read_text()[-300:]}")
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int, process: subprocess.Popen) -> bool:
    for _ in range(600):
        if process.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return True
        time.sleep(0.1)
    return False
