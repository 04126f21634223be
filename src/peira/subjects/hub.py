"""Whether a Hugging Face model can be had, asked once: the libraries themselves try for a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECONDS = 10.0  # to wait for the hub's answer


def is_cached(name: str, cache_dir: str | None = None, revision: str | None = None) -> bool:
    """Is the model's config in the local cache? ValueError for what can be no hub id."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json", cache_dir, revision), str)


def lacking(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    token: Any = None,
    local_files_only: bool = False,
) -> str | None:
    """Why a model cannot be had: it is no folder, not cached, and the hub does not give it. None if
    it can."""
    if Path(name).is_dir():
        return None
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        if is_cached(name, cache_dir, revision):
            return None
        if local_files_only:
            return "neither a folder nor cached"
        url = hf_hub_url(name, "config.json", revision=revision)
        get_hf_file_metadata(url, token=token, timeout=SECONDS)
    except (OSError, ValueError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        return f"neither a folder nor cached, and the hub: {first_line(error)}"
    return None


def first_line(error: Exception) -> str:
    """What an error says, in one line of bounded length."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
