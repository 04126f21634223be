"""Hooks mean the same place in every architecture, and every shortcut gives plain numbers."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peira.errors import InputError
from peira.families.representations.contexts import Arm, Context, batch_of
from peira.families.representations.graphs import Structure
from peira.families.representations.reducers import Vectors

torch = pytest.importorskip("torch", reason="the extra `local` (torch) is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")
pytestmark = pytest.mark.torch

from peira.families.representations.models import HookedLLM  # noqa: E402

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 128}  # fmt: skip
KEYS = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    ),
    "llama": ("LlamaConfig", KEYS),
    "mistral": ("MistralConfig", {**KEYS, "sliding_window": None}),
    "qwen2": ("Qwen2Config", KEYS),
    "qwen3": ("Qwen3Config", KEYS),
    "gemma": ("GemmaConfig", KEYS),
    "gemma2": ("Gemma2Config", {**KEYS, "final_logit_softcapping": 3.0, "sliding_window": 64}),
    "gemma3_text": ("Gemma3TextConfig", {**KEYS, "sliding_window": 64}),
    "gpt_neox": ("GPTNeoXConfig", SMALL),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random small models of every architecture in Hugging Face form, with a tokenizer trained here."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    root = tmp_path_factory.mktemp("models")
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=64, special_tokens=["<unk>", "<s>"], show_progress=False
    )
    inner.train_from_iterator(["apple bird box car code egg " * 20], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>"
    )
    torch.manual_seed(0)
    for name, (config, options) in ARCHITECTURES.items():
        made = getattr(transformers, config)(
            **options, bos_token_id=1, eos_token_id=None, pad_token_id=0
        )
        model = transformers.AutoModelForCausalLM.from_config(made)
        for p in model.parameters():
            p.data = p.data + 0.02 * torch.randn_like(p)
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


def context_of(length: int, seed: int = 0) -> Context:
    rng = np.random.default_rng(seed)
    node_ids = np.arange(5, 13)
    nodes = rng.integers(0, 8, length)
    arm = Arm("natural", node_ids[nodes], nodes)
    structure = Structure("all", np.ones((8, 8)), np.ones((8, 8)), (np.zeros(8, dtype=int),))
    return Context(seed, seed, tuple("abcdefgh"), node_ids, nodes, structure, {"natural": arm})


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_names_and_losses_are_hugging_faces(folder: Path, name: str) -> None:
    llm = HookedLLM.from_pretrained(str(folder / name))
    context = context_of(20)
    batch = batch_of([(context, context.natural)])
    names = ["embed", *(f"blocks.{k}.resid_post" for k in range(3)), "final_norm"]
    found = llm.run(batch, names, Vectors())
    ids = torch.as_tensor(np.concatenate([[[1]], batch.ids], 1))
    with torch.no_grad():
        truth = llm.model(ids, labels=ids, output_hidden_states=True)
    for k in range(2):
        hidden = truth.hidden_states[k + 1][:, 1:].numpy()
        assert np.abs(found.reduced[f"blocks.{k}.resid_post"] - hidden).max() < 1e-5
    assert np.abs(found.reduced["embed"] - truth.hidden_states[0][:, 1:].numpy()).max() < 1e-5
    assert np.abs(found.reduced["final_norm"] - truth.hidden_states[-1][:, 1:].numpy()).max() < 1e-5
    assert float(found.losses.mean()) == pytest.approx(float(truth.loss), abs=1e-5)
    probabilities = truth.logits[0, 1:].softmax(-1)[:, 5:13].numpy()
    assert np.abs(found.node_probabilities[0] - probabilities).max() < 1e-5


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_padding_prefixes_and_sharing_change_nothing(folder: Path, name: str) -> None:
    llm = HookedLLM.from_pretrained(str(folder / name))
    names = [f"blocks.{k}.resid_post" for k in range(3)]
    long, short = context_of(20), context_of(13, 1)
    together = llm.run(batch_of([(long, long.natural), (short, short.natural)]), names, Vectors())
    alone = llm.run(batch_of([(short, short.natural)]), names, Vectors())
    prefix = Arm("prefix", long.natural.ids[:13], long.natural.node_of[:13])
    part = llm.run(batch_of([(long, prefix)]), names, Vectors())
    changed = long.natural.ids.copy()
    changed[9:] = changed[9:][::-1]
    variant = Arm("variant", changed, long.natural.node_of)
    batch = batch_of([(long, variant), (long, long.natural)])
    shared = llm.share(batch_of([(long, long.natural)]), names)
    assert shared is not None
    quick, plain = (
        llm.run_shared(batch, names, Vectors(), shared, 9),
        llm.run(batch, names, Vectors()),
    )
    for key in names:
        assert np.abs(together.reduced[key][1, :13] - alone.reduced[key][0]).max() < 1e-5
        assert np.abs(together.reduced[key][0, :13] - part.reduced[key][0]).max() < 1e-5
        assert np.abs(quick.reduced[key] - plain.reduced[key]).max() < 1e-5
    assert np.nanmax(np.abs(together.losses[1, :13] - alone.losses[0])) < 1e-5
    assert np.isnan(together.losses[1, 13:]).all()
    assert np.abs(quick.losses - plain.losses).max() < 1e-5
    assert np.abs(quick.node_probabilities - plain.node_probabilities).max() < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_parts_of_a_block_add_up(folder: Path, name: str) -> None:
    llm = HookedLLM.from_pretrained(str(folder / name))
    context = context_of(9)
    places = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    names = [f"blocks.1.{place}" for place in places]
    found = llm.run(batch_of([(context, context.natural)]), names, Vectors()).reduced
    before, attention, mlp, after = (found[n] for n in names)
    assert np.abs(before + attention + mlp - after).max() < 1e-5


def test_a_hook_may_replace(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "llama"))
    context = context_of(9)
    batch = batch_of([(context, context.natural)])
    with llm.hooks({"blocks.0.resid_post": lambda h: h * 0}):
        found = llm.run(batch, ["blocks.0.resid_post"], Vectors())
    assert not np.allclose(found.losses, llm.run(batch, [], Vectors()).losses)


def test_barring_a_token_leaves_what_precedes_it_alone(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "llama"))
    context = context_of(15)
    arm = Arm("mask", context.natural.ids, context.natural.node_of, barred=6)
    name = "blocks.2.resid_post"
    plain = llm.run(batch_of([(context, context.natural)]), [name], Vectors()).reduced[name][0]
    masked = llm.run(batch_of([(context, arm)]), [name], Vectors()).reduced[name][0]
    assert np.abs(plain[:7] - masked[:7]).max() < 1e-5
    assert np.abs(plain[7:] - masked[7:]).max() > 1e-4


def test_dtype_words_and_unknown_keywords(folder: Path) -> None:
    path = str(folder / "llama")
    assert HookedLLM.from_pretrained(path, torch_dtype="bfloat16").dtype == "bfloat16"
    assert (
        HookedLLM.from_pretrained(path, dtype=torch.bfloat16, torch_dtype="bfloat16").dtype
        == "bfloat16"
    )
    with pytest.raises(InputError, match="torch_dtype"):
        HookedLLM.from_pretrained(path, dtype="float32", torch_dtype="bfloat16")
    with pytest.raises(InputError, match="load_in_8bit"):
        HookedLLM.from_pretrained(path, load_in_8bit=True)
    with pytest.raises(InputError, match="--dtype"):
        HookedLLM.from_pretrained(path, dtype="int8")
    with pytest.raises(InputError, match="remedy"):
        HookedLLM.from_pretrained("no/such-model-anywhere", local_files_only=True)


def test_a_model_that_cannot_be_had_is_refused_at_once_and_in_three_lines() -> None:
    dead = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    line = [sys.executable, "-m", "peira.cli.main", "probe", "css", "--model", "no/such-model"]
    done = subprocess.run(line, env=dead, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    told = done.stderr.splitlines()
    assert len(told) == 3 and "no/such-model" in told[0] and "remedy" in told[2], told


def test_without_bos_the_first_word_is_in_no_mean(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "gpt2"))
    llm.bos_mode = "none"
    context = context_of(9)
    found = llm.run(batch_of([(context, context.natural)]), [], Vectors())
    assert found.labels[0, 0] == -1 and found.labels[0, 1] == context.nodes[1]
    assert np.isnan(found.losses[0, 0]) and np.isfinite(found.losses[0, 1:]).all()


def test_the_guides_face(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "llama"))
    logits, cache = llm.forward_with_cache([5, 6, 7, 8], [0, 2])
    assert logits.shape == (1, 4, 64) and set(cache) == {0, 2} and cache[2].shape == (1, 4, 32)
    losses = llm.compute_per_token_loss([5, 6, 7, 8])
    truth = torch.nn.functional.cross_entropy(
        logits[0, :-1], torch.tensor([6, 7, 8]), reduction="none"
    )
    assert torch.allclose(losses[0], truth, atol=1e-5)


def test_an_unknown_place_is_named(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "llama"))
    context = context_of(5)
    for name in ("blocks.7.resid_post", "blocks.0.q", "head"):
        with pytest.raises(InputError, match="allowed"):
            llm.run(batch_of([(context, context.natural)]), [name], Vectors())


def test_the_twin_has_the_configuration_but_not_the_weights(folder: Path) -> None:
    llm = HookedLLM.from_pretrained(str(folder / "gpt2"))
    twin = llm.twin(1)
    assert twin.num_layers == llm.num_layers and twin.hidden_size == llm.hidden_size
    a, b = (next(m.model.parameters()) for m in (llm, twin))
    assert not torch.allclose(a, b)
    assert torch.equal(next(llm.twin(1).model.parameters()), b)


def test_a_batch_that_cannot_fit_is_refused_before_loading(folder: Path) -> None:
    from peira.families.representations.loading import Hub, load

    path = str(folder / "llama")
    with pytest.raises(InputError) as told:
        load(path, Hub("float32", "cpu", batch_tokens=10**11))
    assert "--dtype bfloat16, or --batch-tokens" in str(told.value) and "weights" in str(told.value)
    batch = int(str(told.value).split()[-1])
    load(path, Hub("float32", "cpu", batch_tokens=batch))
    with pytest.raises(InputError, match="in bfloat16 and") as told:
        load(path, Hub("bfloat16", "cpu", batch_tokens=10**11))
    assert "--dtype" not in str(told.value)


def test_weights_that_cannot_fit_are_refused_before_loading(folder: Path, tmp_path: Path) -> None:
    from peira.families.representations.loading import Hub, load

    config = transformers.AutoConfig.from_pretrained(folder / "llama")
    config.hidden_size = config.intermediate_size = 2**20
    config.save_pretrained(tmp_path)  # no weights beside it: they are never looked for
    with pytest.raises(InputError, match="--dtype bfloat16, or --device map, or a smaller model"):
        load(str(tmp_path), Hub("float32", "cpu"))


def test_what_a_batch_needs_is_counted_from_the_configuration(folder: Path) -> None:
    from peira.families.representations.loading import Hub
    from peira.families.representations.memory import need

    told, path = need(str(folder / "llama"), Hub("float32")), str(folder / "llama")
    model = HookedLLM.from_pretrained(path).model
    assert told.weights == sum(p.numel() * 4 for p in model.parameters())
    assert told.head == 64 * (4 + 8)  # vocabulary × (float32 logits and two float32 copies)
    cache = 2 * 3 * 2 * 8  # keys and values, layers, heads that keep them, their width
    assert told.token == 4 * (cache + 6 * 32 + 3 * 48) + 2 * 4 * 32
    assert told.above(4096) - told.above(2048) == 2048 * told.token  # logits stay a chunk
    assert need(path, Hub("bfloat16")).weights == told.weights // 2


def test_the_untrained_twin_is_counted_before_anything_is_loaded(folder: Path) -> None:
    from peira.families.representations.loading import Hub, load
    from peira.families.representations.memory import need

    path = str(folder / "llama")
    alone, both = (need(path, Hub("bfloat16", twin_below=below)) for below in (0, 10**9))
    assert alone.twin == 0 and both.twin == 2 * both.weights  # it is drawn in float32
    assert both.fitting(alone.weights + alone.above(64), 64) is None
    with pytest.raises(InputError, match="for its untrained twin") as told:
        load(path, Hub("float32", "cpu", batch_tokens=10**11, twin_below=10**9))
    assert "--null shuffled" in str(told.value)


@pytest.mark.parametrize(
    ("experiment", "null", "below"),
    [("css", None, 0), ("css", ("untrained",), math.inf), ("park", None, 10**9), ("park", ("shuffled",), 0)],
)  # fmt: skip
def test_a_trial_that_makes_a_twin_says_so_to_the_estimate(
    experiment: str, null: Any, below: float
) -> None:
    from peira.families.representations.settings import RepresentationSettings
    from peira.families.representations.trial import twin_below

    assert twin_below(RepresentationSettings(experiment=experiment, null=null)) == below


def test_steering_without_bos_aims_only_at_words_whose_place_is_known() -> None:
    from peira.families.representations.experiments import of
    from peira.families.representations.settings import RepresentationSettings
    from peira.families.representations.trial import resolve

    settings = RepresentationSettings(
        experiment="park", model="peira/tiny-graph-tracer", condition="ring:12", bos="none",
        lengths=(6,), n_contexts=8, steer=True, layers=(1,), null=("none",))  # fmt: skip
    spec, park = resolve(settings, 3), of("park")
    drawn = [park.draw(spec, i) for i in range(8)]
    assert any(c.nodes[0] not in c.nodes[1:] for c in drawn), "a word seen at position 0 alone"
    gains = [r["steer/plane"] for r in park.measure(spec, drawn)]
    assert np.isfinite(gains).any()
