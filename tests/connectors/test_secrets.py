import pytest

from connectors.secrets import Secrets, secrets_in_options, secrets_in_url, without_secrets_of_url

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        (f"https://mainnet.example/v3/{KEY}", {KEY}),
        (f"https://node.example/ethereum?apikey={KEY}", {KEY}),
        ("https://node.example:8545", set()),
        ("http://127.0.0.1:9000/binance-usdm", set()),
        ("https://somebody:hunter2@node.example/x", {"somebody:hunter2", "somebody", "hunter2", "c29tZWJvZHk6aHVudGVyMg=="}),
        ("https://token@node.example", {"token", "dG9rZW4="}),
        ("https://a:b@c:d@node.example", {"a:b@c:d", "a", "b@c:d", "YTpiQGM6ZA=="}),
        ("https://node.example/AbCdEf", {"AbCdEf"}),
        ("https://node.example/averyveryverylongword", {"averyveryverylongword"}),
        ("nonsense", set()),
        ("", set()),
    ],
)
def test_a_urls_secrets_are_its_user_its_password_and_what_looks_like_a_key(url, secrets):
    assert secrets_in_url(url) == secrets


def test_a_url_is_shown_without_them():
    shown = without_secrets_of_url(f"https://ab:pw@node.example:8545/v3/{KEY}?x={KEY}")

    assert shown == "https://…@node.example:8545/v3/…?x=…"


def test_options_are_secret_by_their_names_or_as_parts_of_urls():
    options = {
        "AWS_SECRET_ACCESS_KEY": "abcdefgh",
        "aws_access_key_id": "AKIAEXAMPLE",
        "azure_storage_sas_token": "sv=2020&sig=x",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://user:hunter2@127.0.0.1:9000",
    }

    assert secrets_in_options(options.items()) == {
        "abcdefgh",
        "AKIAEXAMPLE",
        "sv=2020&sig=x",
        "user:hunter2",
        "user",
        "hunter2",
        "dXNlcjpodW50ZXIy",
    }


def test_what_is_known_is_blanked_out_wherever_it_stands():
    secrets = Secrets()
    secrets.know([KEY, "p@ss word"])

    assert secrets.clean(f"GET /v3/{KEY}: no such key {KEY}") == "GET /v3/…: no such key …"
    assert secrets.clean("https://p%40ss%20word@a.example refused p@ss word") == "https://…@a.example refused …"
    assert secrets.clean("nothing to hide") == "nothing to hide"


def test_a_secret_within_another_leaves_nothing_of_either():
    secrets = Secrets()
    secrets.know(["secret", "my-secret-key"])
    secrets.know(["secret-k"])

    assert secrets.clean("my-secret-key secret-k secret") == "… … …"


def test_short_words_are_left():
    secrets = Secrets()
    secrets.know(["true", "", "12345"])

    assert secrets.clean("true 12345") == "true 12345"
