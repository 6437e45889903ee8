import asyncio

import pytest
from loopback import http_client
from real_servers import free_port
from receivers import http_receiver

from cascadewatch.checkup import Level
from cascadewatch.checkup_alertmanager import check_alertmanagers
from flows.settings import Settings

STATUS = b'{"cluster": {"status": "disabled"}, "versionInfo": {"version": "0.25.0"}}'


def checked(**alertmanager):
    async def check():
        async with http_client() as client:
            return await check_alertmanagers(Settings(alertmanager=alertmanager), client)

    return asyncio.run(check())


def answering(code, body):
    return lambda _message: (code, {"Content-Type": "application/json"}, body)


def test_without_alertmanagers_there_is_nothing_to_check():
    assert checked() == []


def test_one_that_answers_is_named_with_its_version_and_asked_with_the_credentials(tmp_path):
    (tmp_path / "token").write_text("a-bearer-token")
    with http_receiver(answering(200, STATUS)) as inbox:
        (check,) = checked(urls=[inbox.url], bearer_token_file=tmp_path / "token")

    assert (check.level, check.seen) == (Level.OK, f"{inbox.url}: version 0.25.0")
    assert [(message.path, message.headers["Authorization"]) for message in inbox.messages] == [
        ("/api/v2/status", "Bearer a-bearer-token")
    ]


@pytest.mark.parametrize(
    ("code", "body", "advice"),
    [
        (401, b"", "username"),
        (404, b"no such page", "base URL"),
        (200, b"<html>", "base URL"),
        (200, b'{"versionInfo": null}', "base URL"),
    ],
)
def test_what_is_no_alertmanager_or_lets_nobody_in_is_failed_with_advice(code, body, advice):
    with http_receiver(answering(code, body)) as inbox:
        (check,) = checked(urls=[inbox.url])

    assert check.level is Level.FAILED
    assert advice in check.advice


def test_one_that_is_away_and_a_secret_that_cannot_be_read_are_failed(tmp_path):
    (away,) = checked(urls=[f"http://127.0.0.1:{free_port()}"])
    (unread,) = checked(urls=["http://127.0.0.1:1"], bearer_token_file=tmp_path / "missing")

    assert (away.level, unread.level) == (Level.FAILED, Level.FAILED)
    assert "alertmanager.urls" in away.advice
    assert "alertmanager.bearer_token_file" in unread.seen
