"""A running ``rateguard demo`` and what tests ask of its command line."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prices import REPOSITORY

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
COMMAND_SECONDS_MAX = 20.0
EVENT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
LOG_CHARACTERS_SHOWN = 4_000


@dataclass(frozen=True)
class Keys:
    """The keys that the demo prints."""

    manage: str
    app: str
    tight: str
    broke: str


@dataclass(frozen=True)
class UsageEvent:
    """The fields of a listed usage event that the tests read."""

    event_id: str
    request_id: str
    cost_nanos: int
    exactness: str


@dataclass(frozen=True)
class Demo:
    """One demo that has said it is ready."""

    address: str
    keys: Keys
    openai_api: str
    anthropic_api: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def openai_url(self) -> str:
        """The base URL for the OpenAI SDK."""
        return f"{self.address}/proxy/{self.openai_api}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for the Anthropic SDK, which adds ``/v1`` itself."""
        return f"{self.address}/proxy/{self.anthropic_api}"

    def usage_event(self, request_id: str) -> UsageEvent:
        """The one usage event of a request, once it is listed."""
        deadline = time.monotonic() + EVENT_SECONDS_MAX
        while time.monotonic() < deadline:
            events = self._list_usage(request_id)
            if events:
                assert len(events) == 1, f"one request, several events: {events}"
                return events[0]
            time.sleep(POLL_SECONDS)
        raise AssertionError(
            f"no usage event of {request_id} in {EVENT_SECONDS_MAX} s\n{self.log_tail()}"
        )

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def exit_code(self) -> int:
        """The exit code, waited for with a deadline."""
        return self.process.wait(timeout=STOP_SECONDS_MAX)

    def log_tail(self) -> str:
        """The end of what the demo wrote to standard error."""
        return self.log.read_text(encoding="utf-8", errors="replace")[
            -LOG_CHARACTERS_SHOWN:
        ]

    def _list_usage(self, request_id: str) -> list[UsageEvent]:
        command = [str(binary()), "usage", "list", "--address", self.address]
        command += ["--key", self.keys.manage, "--request-id", request_id, "--json"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"usage list failed: {done.stderr}"
        return [_event(json.loads(line)) for line in done.stdout.splitlines() if line]


def binary() -> Path:
    """The binary under test."""
    named = os.environ.get("RATEGUARD_BIN")
    path = Path(named) if named else REPOSITORY / "target" / "debug" / "rateguard"
    assert path.is_file(), f"build the server first: {path} is missing"
    return path.resolve()


@contextmanager
def running_demo(data_folder: Path, log: Path) -> Iterator[Demo]:
    """Starts a demo; on the way out makes sure that it is gone."""
    command = [str(binary()), "demo", "--data-dir", str(data_folder)]
    command += ["--listen", "127.0.0.1:0", "--print-json"]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield _ready_demo(process, log)
        finally:
            if process.poll() is None:
                process.kill()


def _ready_demo(process: subprocess.Popen[str], log: Path) -> Demo:
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue(maxsize=1)
    threading.Thread(
        target=_first_line, args=(process.stdout, lines), daemon=True
    ).start()
    try:
        line = lines.get(timeout=READY_SECONDS_MAX)
    except queue.Empty:
        line = ""
    if not line:
        tail = log.read_text(encoding="utf-8", errors="replace")
        raise AssertionError(
            f"the demo did not get ready:\n{tail[-LOG_CHARACTERS_SHOWN:]}"
        )
    ready: dict[str, Any] = json.loads(line)
    return Demo(
        address=ready["address"],
        keys=Keys(**ready["keys"]),
        openai_api=ready["apis"]["openai"],
        anthropic_api=ready["apis"]["anthropic"],
        process=process,
        log=log,
    )


def _first_line(output: IO[str], lines: "queue.Queue[str]") -> None:
    """Hands over the first line and reads on, so that the demo never blocks on a full pipe."""
    lines.put(output.readline())
    for _line in output:
        pass


def _event(fields: dict[str, Any]) -> UsageEvent:
    cost = fields["cost_nanos"]
    assert isinstance(cost, int | str), (
        f"cost_nanos must be a whole number, not {cost!r}"
    )
    return UsageEvent(
        event_id=fields["event_id"],
        request_id=fields["request_id"],
        cost_nanos=int(cost),
        exactness=fields["exactness"],
    )
