"""The section `copies`: where the twins are, to whom they are encrypted, and what cannot be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mirror.auth.secrets import SecretSource
from mirror.bucket.address import Address
from mirror.config import Config, in_force, load_text, show
from mirror.errors import ConfigError

HEAD = "store: s\ncredential: {kind: workspace_access_token, token: {file: t}}\n"
AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN me@here"


def read(text: str) -> Config:
    return load_text(HEAD + text, "config.yaml", folder=Path("/etc/mirror"))


def test_a_copy_with_everything() -> None:
    [copy] = read(
        f"copies: [{{to: 's3://acme/mirror/', endpoint: https://s3.example.org, region: eu-1,"
        f" access_key_id: {{file: k}}, secret_access_key: {{env: S}}, recipients: [{AGE}, '{SSH}'],"
        f" names_key: {{credential: n}}, protect: 90d, bandwidth: 10MiB}}]\n"
    ).copies
    assert (copy.to, copy.address) == ("s3://acme/mirror", Address("s3", "acme", "mirror"))
    assert copy.access_key_id == SecretSource("file", "/etc/mirror/k")
    assert copy.recipients == (AGE, SSH)
    assert (copy.protect, copy.bandwidth) == (timedelta(days=90), 10 << 20)


def test_an_address_is_enough() -> None:
    [one, other] = read("copies: [{to: 'gs://acme'}, {to: 'az://acme/x'}]\n").copies
    assert (one.to, other.to) == ("gs://acme", "az://acme/x")
    assert (one.recipients, one.endpoint, one.access_key_id) == (None, None, None)


def test_the_configuration_in_force_reads_the_same() -> None:
    config = read(f"copies: [{{to: 's3://acme/m', recipients: [{AGE}], names_key: {{env: N}}}}]\n")
    again = load_text(show(config), "config.yaml", folder=Path("/etc/mirror"))
    assert again.copies == config.copies and in_force(again) == in_force(config)


SECRETS = "access_key_id: {file: k}, secret_access_key: {file: s}"


@pytest.mark.parametrize(
    ("entry", "key", "words"),
    [
        ("region: eu-1", "", "is missing"),
        ("to: /srv/copy", "to", "an address such as s3://bucket/prefix"),
        ("to: 's3://key:s3cr3t@bucket/x'", "to", "without a user name or key"),
        ("to: 's3://bucket/../x'", "to", "an address such as"),
        ("to: 's3://b1', endpoint: 'http://s3.example.org'", "endpoint", "begin with https://"),
        ("to: 's3://b1', endpoint: 'https://k:s@s3.example.org'", "endpoint", "user name or secret"),
        ("to: 's3://b1', region: 'not one'", "region", "the name of a region"),
        ("to: 's3://b1', access_key_id: AKIA123", "access_key_id", "contains a secret"),
        ("to: 's3://b1', secret_access_key: s3cr3t", "secret_access_key", "contains a secret"),
        ("to: 's3://b1', names_key: s3cr3t", "names_key", "contains a secret"),
        ("to: 's3://b1', access_key_id: {file: k}", "", "together, or neither"),
        (f"to: 'gs://b1', {SECRETS}", "", "secret_access_key alone"),
        (f"to: 's3://b1', recipients: [{AGE}]", "", "should have names_key where it has recipients"),
        ("to: 's3://b1', names_key: {file: n}", "", "names_key only where it has recipients"),
        ("to: 's3://b1', recipients: [], names_key: {file: n}", "recipients", "at least one"),
        ("to: 's3://b1', recipients: [me], names_key: {file: n}", "recipients[0]", "a public key"),
        (f"to: 's3://b1', recipients: [{AGE}x], names_key: {{file: n}}", "recipients[0]", "a public key"),
        (
            "to: 's3://b1', recipients: [AGE-SECRET-KEY-1QQ], names_key: {file: n}",
            "recipients[0]",
            "is a secret key",
        ),
        ("to: 's3://b1', protect: 90", "protect", "a length of time"),
        ("to: 'gs://b1', protect: 90d", "", "no Object Lock"),
        ("to: 's3://b1', bandwidth: 10", "bandwidth", "a size such as"),
        ("to: 's3://b1', bucket: x", "bucket", "is not a known key"),
    ],
)
def test_what_a_copy_cannot_be_is_told_by_line_and_key(entry: str, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"copies:\n  - {{{entry}}}\n")
    assert "s3cr3t" not in str(caught.value) and "QQ" not in str(caught.value)
    wanted = "copies[0]" + (f".{key}" if key else "")
    assert [
        (fault.line, fault.key)
        for fault in caught.value.faults
        if words in fault.problem and fault.key in (wanted, "copies[0].to")
    ]
    assert {fault.line for fault in caught.value.faults} == {4}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("s3://b1/x", "s3://b1/x/", "is the same address as copies[0]"),
        ("s3://b1/x", "s3://b1/x/y", "is inside copies[0]"),
        ("s3://b1", "s3://b1/x", "is inside copies[0]"),
        ("s3://b1/x/y", "s3://b1/x", "contains copies[0]"),
    ],
)
def test_copies_stand_apart(one: str, other: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"copies:\n  - to: '{one}'\n  - to: '{other}'\n")
    [fault] = caught.value.faults
    assert (fault.line, fault.key, fault.problem) == (5, "copies[1].to", words)


def test_copies_beside_each_other_are_well() -> None:
    config = read("copies: [{to: 's3://b1/x'}, {to: 's3://b1/xy'}, {to: 's3://b2/x'}, {to: 'gs://b1/x'}]\n")
    assert len(config.copies) == 4
