"""A real Envoy in front of a real ``rateguard serve``, which it asks over its rate-limit protocol."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prices import REPOSITORY

READY_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 60.0
CALL_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
LOG_CHARACTERS_SHOWN = 4_000

CONFIGURATION = """\
domain: edge
descriptors:
  - key: user
    rate_limit: {unit: day, requests_per_unit: 3}
  - key: user
    value: many
    rate_limit: {unit: day, requests_per_unit: 7}
  - key: user
    value: guest-*
    share_threshold: true
    rate_limit: {unit: day, requests_per_unit: 2}
  - key: user
    value: trusted
    rate_limit: {unlimited: true}
  - key: route
    detailed_metric: true
    rate_limit: {unit: day, requests_per_unit: 100}
  - key: tokens_of
    quota_mode: true
    rate_limit: {unit: day, requests_per_unit: 100}
"""

# What every call that passes is answered with.
_UPSTREAM = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}

_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"

# Opens whatever is on this machine, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """What a client of Envoy got."""

    status: int
    headers: dict[str, str]


@dataclass
class Server:
    """One ``rateguard serve`` with a workspace that the configuration above was imported into."""

    address: str
    key: str
    import_notes: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kills it and waits until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(READY_SECONDS_MAX)


@dataclass(frozen=True)
class Envoy:
    """An Envoy with two listeners: calls pass the one, and fail at the other, where nobody decides."""

    open_url: str
    closed_url: str

    def get(self, path: str, user: str, **headers: str) -> Answer:
        """Calls the listener where calls pass."""
        return get(self.open_url + path, {"x-user": user, **headers})


def get(url: str, headers: dict[str, str] | None = None) -> Answer:
    """A call whose every status is an answer."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with _OPENER.open(request, timeout=CALL_SECONDS_MAX) as answer:
            return Answer(answer.status, _lowered(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _lowered(error.headers))


def _lowered(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _answers(url: str) -> bool:
    try:
        return get(url).status == 200
    except OSError:
        return False


def _wait(what: str, process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return
        time.sleep(POLL_SECONDS)
    tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS_SHOWN:]
    raise AssertionError(f"{what} did not get ready:\n{tail}")


def _rateguard(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_binary(), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done


def _binary() -> str:
    return os.environ.get(
        "RATEGUARD_BIN", str(REPOSITORY / "target" / "debug" / "rateguard")
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A fresh installation that serves on a port of its own."""
    data = str(folder / "data")
    made = _rateguard("init", "--data-dir", data).stdout
    first_key = re.search(r"rg_live_\S+", made)
    assert first_key, "init prints the first key"
    port, log = _free_port(), folder / "server.log"
    command = [_binary(), "serve", "--data-dir", data, "--listen", f"127.0.0.1:{port}"]
    address = f"http://127.0.0.1:{port}"
    with _running(command, log) as process:
        _wait("the server", process, log, f"{address}/ready")
        notes = _import(folder, address, first_key[0])
        yield Server(address, first_key[0], notes, process)


def _import(folder: Path, address: str, key: str) -> str:
    source, rules = folder / "ratelimit.yaml", folder / "rules.yaml"
    source.write_text(CONFIGURATION, encoding="utf-8")
    imported = _rateguard("import", "envoy-ratelimit", str(source), "-o", str(rules))
    _rateguard("apply", "--address", address, "--key", key, str(rules))
    return imported.stderr


@contextmanager
def running_envoy(server: Server, folder: Path) -> Iterator[Envoy]:
    """An Envoy that asks the server."""
    admin, upstream = _free_port(), _free_port()
    open_port, closed_port = _free_port(), _free_port()
    listeners = [
        _limiting(server, "open", open_port, failure_mode_deny=False),
        _limiting(server, "closed", closed_port, failure_mode_deny=True),
        _listener("upstream", upstream, [_UPSTREAM], []),
    ]
    clusters = [
        _cluster("rateguard", int(server.address.rsplit(":", 1)[1]), http2=True),
        _cluster("upstream", upstream, http2=False),
    ]
    configuration = {
        "admin": {"address": _address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    file, log = folder / "envoy.json", folder / "envoy.log"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    program = str(Path(sys.executable).parent / "envoy")
    command = [program, "-c", str(file), "--concurrency", "1"]
    command += ["--use-dynamic-base-id", "--log-level", "warning"]
    with _running(command, log) as process:
        _wait("Envoy", process, log, f"http://127.0.0.1:{admin}/ready")
        yield Envoy(f"http://127.0.0.1:{open_port}", f"http://127.0.0.1:{closed_port}")


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int, *, http2: bool) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    cluster = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    if not http2:
        return cluster
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    speaks_http2 = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {**cluster, "typed_extension_protocol_options": {options: speaks_http2}}


def _limiting(
    server: Server, name: str, port: int, *, failure_mode_deny: bool
) -> dict[str, Any]:
    limits = {
        "@type": f"{_EXTENSIONS}.http.ratelimit.v3.RateLimit",
        "domain": "edge",
        "failure_mode_deny": failure_mode_deny,
        "timeout": "10s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "rateguard"},
                "initial_metadata": [
                    {"key": "authorization", "value": f"Bearer {server.key}"}
                ],
            },
        },
    }
    return _listener(name, port, _limited_routes(), [("limits", limits)])


def _listener(
    name: str,
    port: int,
    routes: list[dict[str, Any]],
    filters: list[tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    router = ("router", {"@type": f"{_EXTENSIONS}.http.router.v3.Router"})
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]
        },
        "http_filters": [
            {"name": name, "typed_config": config}
            for name, config in [*filters, router]
        ],
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def _limited_routes() -> list[dict[str, Any]]:
    user = _by_header("x-user", "user")
    route = {"generic_key": {"descriptor_key": "route", "descriptor_value": "/both"}}
    tokens = _by_header("x-user", "tokens_of")
    before = {"actions": [tokens], "hits_addend": {"number": 0}}
    after = {
        "actions": [tokens],
        "hits_addend": {"format": "%REQ(x-used)%"},
        "apply_on_stream_done": True,
    }
    return [
        _route("/user", [{"actions": [user]}]),
        _route("/both", [{"actions": [route]}, {"actions": [user]}]),
        _route("/tokens", [before, after]),
    ]


def _by_header(header: str, key: str) -> dict[str, Any]:
    return {"request_headers": {"header_name": header, "descriptor_key": key}}


def _route(prefix: str, rate_limits: list[dict[str, Any]]) -> dict[str, Any]:
    # Hits of their own are read here, and not among the limits of a route's action.
    own = {
        "@type": f"{_EXTENSIONS}.http.ratelimit.v3.RateLimitPerRoute",
        "rate_limits": rate_limits,
    }
    return {
        "match": {"prefix": prefix},
        "route": {"cluster": "upstream"},
        "typed_per_filter_config": {"limits": own},
    }
