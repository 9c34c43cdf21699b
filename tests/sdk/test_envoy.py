"""Envoy limits the calls that it forwards by what the server decides."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from envoy_proxy import Envoy, Server, get, running_envoy, running_server

CHARGED_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that leave it running."""
    with running_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def envoy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """One Envoy in front of it."""
    with running_envoy(server, tmp_path_factory.mktemp("envoy")) as started:
        yield started


def test_what_an_import_does_not_carry_is_told(server: Server) -> None:
    notes = server.import_notes.splitlines()
    assert len(notes) == 2, notes
    assert "descriptors[4].detailed_metric" in notes[0]
    assert "descriptors[5].quota_mode" in notes[1]


def test_what_is_left_counts_down_exactly_and_then_calls_are_denied(
    envoy: Envoy,
) -> None:
    answers = [envoy.get("/user", "ann") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    left = [answer.headers["x-ratelimit-remaining"] for answer in answers]
    assert left == ["2", "1", "0", "0", "0"]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit"] == "3"
        assert int(answer.headers["x-ratelimit-reset"]) > 0
        assert ";q=3;w=86400" in answer.headers["ratelimit-policy"]
        remaining = answer.headers["x-ratelimit-remaining"]
        assert f";r={remaining};t=" in answer.headers["ratelimit"]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert "retry-after" not in answers[0].headers


def test_as_many_calls_at_once_pass_as_the_limit_has(envoy: Envoy) -> None:
    with ThreadPoolExecutor(max_workers=8) as callers:
        statuses = list(
            callers.map(lambda _: envoy.get("/user", "many").status, range(24))
        )
    assert sorted(statuses) == [200] * 7 + [429] * 17


def test_values_that_share_a_threshold_share_it(envoy: Envoy) -> None:
    users = ["guest-1", "guest-2", "guest-3"]
    assert [envoy.get("/user", user).status for user in users] == [200, 200, 429]


def test_what_is_unlimited_is_not_held_to_the_limit_of_all(envoy: Envoy) -> None:
    answers = [envoy.get("/user", "trusted") for _ in range(10)]
    assert {answer.status for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


def test_a_denied_call_takes_nothing_of_its_other_descriptors(envoy: Envoy) -> None:
    statuses = [envoy.get("/both", "bob").status for _ in range(8)]
    assert statuses == [200] * 3 + [429] * 5
    assert ";r=96;" in envoy.get("/both", "cid").headers["ratelimit"]


def test_the_true_use_is_charged_after_the_call_and_denies_the_next(
    envoy: Envoy,
) -> None:
    used = {"x-used": "60"}
    assert envoy.get("/tokens", "ann", **used).status == 200
    _wait_for(lambda: _left(envoy, "ann") == 40, "the first use is charged")
    assert envoy.get("/tokens", "ann", **used).status == 200, "something is left"
    _wait_for(
        lambda: envoy.get("/tokens", "ann", **{"x-used": "0"}).status == 429,
        "the second use, which is more than was left, is charged",
    )
    assert _left(envoy, "ann") == 0
    assert _left(envoy, "bob") == 100, "others have their own"


def _left(envoy: Envoy, user: str) -> int:
    answer = envoy.get("/tokens", user, **{"x-used": "0"})
    return int(answer.headers["x-ratelimit-remaining"])


def _wait_for(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + CHARGED_SECONDS_MAX
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not in time: {what}")


def test_without_a_server_calls_pass_or_fail_as_envoy_is_told(tmp_path: Path) -> None:
    with (
        running_server(tmp_path) as server,
        running_envoy(server, tmp_path) as envoy,
    ):
        assert get(f"{envoy.closed_url}/user", {"x-user": "ann"}).status == 200
        server.kill()
        assert get(f"{envoy.open_url}/user", {"x-user": "ann"}).status == 200
        assert get(f"{envoy.closed_url}/user", {"x-user": "ann"}).status == 500
