"""The secrets of hooks: the address that they make, and whose signature they prove."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from mirror.auth.hook_keys import HookKeys, check_secret, signature_of
from mirror.auth.secrets import Secret
from mirror.errors import UsageError

NOW, BEFORE, STORE = Secret("n" * 32), Secret("b" * 40), "7d5e386e-0788-41be-a37b-dab4bb3aa61a"
BODY = b'{"repository": {"uuid": "{1}"}}'


def test_the_address_is_made_of_secret_and_store() -> None:
    keys = HookKeys(NOW, None, STORE)
    assert keys.path == "/hooks/" + hmac.new(b"n" * 32, STORE.encode(), hashlib.sha256).hexdigest()[:32]
    assert keys.path != HookKeys(NOW, None, "another").path != HookKeys(BEFORE, None, "another").path
    assert keys.has_path(keys.path)
    for path in ("", "/hooks/", keys.path[:-1], keys.path + "0", keys.path.upper(), "/hooks/\udc80"):
        assert not keys.has_path(path)


def test_the_secret_before_counts_while_it_is_given() -> None:
    old = HookKeys(BEFORE, None, STORE)
    for keys, counts in ((HookKeys(NOW, BEFORE, STORE), True), (HookKeys(NOW, None, STORE), False)):
        assert keys.has_path(old.path) is counts
        assert keys.are_signed(BODY, signature_of(BEFORE, BODY)) is counts
        assert keys.are_signed(BODY, signature_of(NOW, BODY))


def test_a_signature_is_of_this_body_and_this_secret() -> None:
    keys = HookKeys(NOW, None, STORE)
    true = signature_of(NOW, BODY)
    assert true == "sha256=" + hmac.new(b"n" * 32, BODY, hashlib.sha256).hexdigest()
    for wrong in ("", "sha256=", true.upper(), true[:-1], true + "0", true.replace("sha256", "sha1"), "é"):
        assert not keys.are_signed(BODY, wrong)
    assert not keys.are_signed(BODY + b" ", true)


@pytest.mark.parametrize("length", [0, 31, 129])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match=f"hooks.secret has {length} characters") as caught:
        check_secret(Secret("x" * length), "hooks.secret")
    assert "openssl rand" in str(caught.value.hint)
    check_secret(NOW, "hooks.secret")
