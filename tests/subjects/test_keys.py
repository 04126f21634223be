"""Keys: from the environment and .env only, and out of everything that is written."""

import pytest

from peira.errors import InputError, TransientError
from peira.subjects import keys
from peira.subjects.subject import Reply
from peira.subjects.wire import DIALECTS
from peira.subjects.wire.client import Answer
from peira.subjects.wire.http import error_of, read_reply

KEY = "sk-planted-ABCDEFGHIJ0123456789"


@pytest.fixture
def dotenv(tmp_path, monkeypatch):
    keys.load_dotenv.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEIRA_NO_DOTENV", raising=False)
    yield tmp_path / ".env"
    keys.load_dotenv.cache_clear()


def test_a_key_in_dotenv_is_found_and_the_environment_wins(dotenv, monkeypatch):
    monkeypatch.setenv("SECOND_KEY", "from-the-environment")
    monkeypatch.setenv("FIRST_KEY", "")
    monkeypatch.delenv("FIRST_KEY")
    dotenv.write_text("FIRST_KEY=from-dotenv-file\nSECOND_KEY=from-dotenv-file\n")
    assert keys.find_key("FIRST_KEY") == "from-dotenv-file"
    assert keys.find_key("SECOND_KEY") == "from-the-environment"
    monkeypatch.delenv("FIRST_KEY")


def test_a_missing_key_names_every_variable_and_the_way_out():
    with pytest.raises(InputError, match="NO_SUCH_A or NO_SUCH_B") as caught:
        keys.require_key("m", ("NO_SUCH_A", "NO_SUCH_B"))
    assert "simulated" in str(caught.value)


def test_known_keys_and_what_looks_like_one_are_hidden(monkeypatch):
    monkeypatch.setenv("ODD_KEY", "odd/looking=secret")
    keys.find_key("ODD_KEY")
    text = keys.scrub(f"Bearer {KEY}; odd/looking=secret; odd%2Flooking%3Dsecret; gsk_{'a' * 30}")
    assert KEY not in text and "odd" not in text and "gsk_a" not in text
    assert keys.scrub("an ordinary sentence about keys") == "an ordinary sentence about keys"


def test_a_reply_that_echoes_our_key_is_cleaned_and_a_models_words_are_not(monkeypatch):
    monkeypatch.setenv("ECHOED_KEY", KEY)
    keys.find_key("ECHOED_KEY")
    assert KEY not in keys.scrub_reply(Reply(f"your key is {KEY}", request_id=KEY)).text
    said = Reply("try sk-example-0123456789abcdef0123")
    assert keys.scrub_reply(said) is said


@pytest.mark.parametrize("before", range(360, 404, 4))
def test_no_cut_through_an_error_leaves_half_a_key(monkeypatch, before):
    key = "plainwordkey0123456789plainwordkey"
    monkeypatch.setenv("CUT_KEY", key)
    keys.find_key("CUT_KEY")
    text = "x" * before + key + " and more"
    assert "plainword" not in Answer(500, {}, text.encode()).excerpt()
    assert "plainword" not in str(error_of(Answer(500, {}, text.encode())))
    with pytest.raises(TransientError) as caught:
        read_reply(DIALECTS["openai"](), {"choices": text})
    assert "plainword" not in str(caught.value)
