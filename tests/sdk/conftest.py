"""The vendors' own SDKs, unmodified, against ``rateguard demo``.

What these tests rely on:

* ``rateguard demo --data-dir DIR --listen ADDR --print-json`` prints one line of JSON on standard output once
  it is ready::

      {"address": "http://127.0.0.1:PORT",
       "keys": {"manage": "...", "app": "...", "tight": "...", "broke": "..."},
       "apis": {"openai": "demo-openai", "anthropic": "demo-anthropic"}}

  SIGINT drains it: calls in flight finish, and it exits with 0.
* ``app`` may call both APIs as often as these tests do; ``tight`` stands under a rule of 2 requests a minute
  over both APIs together; the budget of ``broke`` is exhausted.
* The workspace's currency is USD and its prices are those of ``server/engine/data/model_prices.json``.
* The gateway answers on ``/proxy/{api}`` and hands the ``x-demo-*`` headers on to the demo upstream, which
  takes its token counts from them.
* ``rateguard usage list --address URL --key KEY --request-id ID --json`` prints one JSON object a line with at
  least ``event_id``, ``request_id``, ``cost_nanos`` (a whole number) and ``exactness`` (``EXACT`` where the
  upstream reported its usage). An event may be listed a moment after its answer: the tests poll.

The binary is ``target/debug/rateguard``, or what ``RATEGUARD_BIN`` names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anthropic
import openai
import pytest
from demo import Demo, running_demo

CALL_SECONDS_MAX = 30.0


@dataclass
class Attempts:
    """Counts every HTTP request that an SDK sends, its retries included."""

    urls: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.urls)

    def openai_transport(self) -> openai.DefaultHttpxClient:
        """An HTTP client for the OpenAI SDK that counts, and ignores proxies of the environment."""
        hooks = {"request": [self._record]}
        return openai.DefaultHttpxClient(event_hooks=hooks, trust_env=False)

    def anthropic_transport(self) -> anthropic.DefaultHttpxClient:
        """An HTTP client for the Anthropic SDK that counts, and ignores proxies of the environment."""
        hooks = {"request": [self._record]}
        return anthropic.DefaultHttpxClient(event_hooks=hooks, trust_env=False)

    def _record(self, request: object) -> None:
        self.urls.append(repr(request))


@dataclass(frozen=True)
class OpenAiCaller:
    """An OpenAI SDK client and the requests it has sent."""

    client: openai.OpenAI
    attempts: Attempts

    @staticmethod
    def connect(demo: Demo, key: str) -> "OpenAiCaller":
        """A client with the SDK's own defaults, retries included."""
        attempts = Attempts()
        client = openai.OpenAI(
            api_key=key,
            base_url=demo.openai_url,
            timeout=CALL_SECONDS_MAX,
            http_client=attempts.openai_transport(),
        )
        return OpenAiCaller(client, attempts)


@dataclass(frozen=True)
class AnthropicCaller:
    """An Anthropic SDK client and the requests it has sent."""

    client: anthropic.Anthropic
    attempts: Attempts

    @staticmethod
    def connect(demo: Demo, key: str) -> "AnthropicCaller":
        """A client with the SDK's own defaults, retries included."""
        attempts = Attempts()
        client = anthropic.Anthropic(
            api_key=key,
            base_url=demo.anthropic_url,
            timeout=CALL_SECONDS_MAX,
            http_client=attempts.anthropic_transport(),
        )
        return AnthropicCaller(client, attempts)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests, stopped as Ctrl-C stops it."""
    folder: Path = tmp_path_factory.mktemp("demo")
    with running_demo(folder / "data", folder / "demo.log") as started:
        yield started
        started.interrupt()
        assert started.exit_code() == 0, started.log_tail()
