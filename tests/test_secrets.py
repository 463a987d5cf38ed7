"""Secrets at rest: sealed with a key, bound to their place, unreadable with any other key."""

import base64
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, SecretUnreadable
from infoscreen.domain.secret_keys import keys_in
from infoscreen.services.secrets import Secrets
from infoscreen.words.speaking import say

KEY, OTHER = bytes(range(32)), bytes(range(100, 140))
TEXT = "mailto://user:s3cr3t-pa55word@example.org"


def refusal(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(SecretUnreadable) as caught:
        act()
    assert isinstance(caught.value, Conflict)
    assert "s3cr3t" not in f"{caught.value} {say(caught.value.fact)} {caught.value.__context__!r}"
    return caught.value.fact.code


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(), max_size=300), st.text(max_size=50))
def test_what_is_sealed_can_be_unsealed_and_says_nothing(text: str, purpose: str) -> None:
    secrets = Secrets([KEY])
    sealed = secrets.seal(text, purpose)
    assert secrets.unseal(sealed, purpose) == text
    assert sealed.isascii()
    assert secrets.seal(text, purpose) != sealed
    assert len(text) < 8 or text not in sealed


SEALED = Secrets([KEY, OTHER]).seal(TEXT, "channel 1 url")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(SEALED) - 1), st.characters(codec="ascii"))
def test_no_change_of_a_sealed_text_goes_unnoticed(at: int, character: str) -> None:
    assume(SEALED[at] != character)
    changed = SEALED[:at] + character + SEALED[at + 1 :]
    assert refusal(lambda: Secrets([KEY, OTHER]).unseal(changed, "channel 1 url")) in {
        ErrorCode.SECRET_DAMAGED,
        ErrorCode.SECRET_OF_OTHER_KEY,
    }


@pytest.mark.parametrize("sealed", ["", "v1", "v1:", "v2:x:y", TEXT, "v1:00000000:", "v1:" + "x" * 1000])
def test_what_was_never_sealed_is_refused(sealed: str) -> None:
    refusal(lambda: Secrets([KEY]).unseal(sealed, "p"))


def test_a_secret_copied_to_another_place_is_refused() -> None:
    sealed = Secrets([KEY]).seal(TEXT, "channel 1 url")
    assert refusal(lambda: Secrets([KEY]).unseal(sealed, "channel 2 url")) is ErrorCode.SECRET_DAMAGED


def test_a_lost_and_a_wrong_key_are_told_apart() -> None:
    sealed = Secrets([KEY]).seal(TEXT, "p")
    assert refusal(lambda: Secrets().unseal(sealed, "p")) is ErrorCode.NO_SECRETS_KEY
    assert refusal(lambda: Secrets().seal(TEXT, "p")) is ErrorCode.NO_SECRETS_KEY
    assert refusal(lambda: Secrets([OTHER]).unseal(sealed, "p")) is ErrorCode.SECRET_OF_OTHER_KEY
    assert (Secrets().available, Secrets([KEY]).available) == (False, True)


def test_a_rotated_key_reads_old_secrets_and_seals_with_the_new_one() -> None:
    old = Secrets([KEY]).seal(TEXT, "p")
    both = Secrets([OTHER, KEY])
    assert both.unseal(old, "p") == TEXT
    renewed = both.resealed(old, "p")
    assert renewed is not None
    assert Secrets([OTHER]).unseal(renewed, "p") == TEXT
    assert refusal(lambda: Secrets([KEY]).unseal(renewed, "p")) is ErrorCode.SECRET_OF_OTHER_KEY
    assert both.resealed(renewed, "p") is None
    assert Secrets([OTHER]).resealed(old, "p") is None
    assert Secrets().resealed(old, "p") is None


def test_keys_are_read_as_tools_write_them() -> None:
    standard, urlsafe = base64.b64encode(OTHER).decode(), base64.urlsafe_b64encode(OTHER).decode()
    assert keys_in(f"{standard}\n") == keys_in(urlsafe) == keys_in(urlsafe.rstrip("=")) == (OTHER,)
    assert keys_in(f"{standard},{base64.b64encode(KEY).decode()}") == (OTHER, KEY)


WRONG_KEYS = ["", " , ", "no base64!", "c2hvcnQ=", "A" * 43 + "=", "=" * 44, "ÄÖÜ" * 20]
WRONG_KEYS += [base64.b64encode(key).decode() for key in (bytes(31), KEY * 99)]
WRONG_KEYS += [",".join([base64.b64encode(KEY).decode()] * 11)]


@pytest.mark.parametrize("text", WRONG_KEYS)
def test_weak_and_wrong_keys_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(not|\d+ (bytes|keys);)") as caught:
        keys_in(text)
    assert len(text) < 8 or text not in str(caught.value)


def test_the_library_is_loaded_at_the_first_secret() -> None:
    script = "import sys, infoscreen.services.secrets; print('cryptography' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert loaded.stdout == "False\n"
