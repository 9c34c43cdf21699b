"""List prices from the repository's own catalogue, in exact arithmetic.

This is a second implementation of the pricing, on purpose: the server's figures are compared with these.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CATALOGUE = REPOSITORY / "server" / "engine" / "data" / "model_prices.json"

TOKENS_PER_PRICE = 1_000_000
NANOS_PER_USD = 1_000_000_000


@dataclass(frozen=True)
class Tokens:
    """Tokens of one answer in classes of which none contains another."""

    plain_input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0


def cost_nanos(provider: str, model: str, tokens: Tokens) -> int:
    """The list price in nano-USD, summed exactly and rounded up once."""
    rates = _rates(provider, model)
    cache_read = rates.get("cache_read", rates["input"])
    usd_millionths = (
        tokens.plain_input * rates["input"]
        + tokens.cache_read * cache_read
        + tokens.output * rates["output"]
    )
    if tokens.cache_write_5m:
        usd_millionths += tokens.cache_write_5m * rates["cache_write"]
    if tokens.cache_write_1h:
        usd_millionths += tokens.cache_write_1h * rates["cache_write_1h"]
    return math.ceil(usd_millionths * NANOS_PER_USD / TOKENS_PER_PRICE)


def nanos_of_header(decimal_usd: str) -> Fraction:
    """A cost header's decimal USD in nano-USD, with nothing rounded away."""
    return Fraction(decimal_usd) * NANOS_PER_USD


def _rates(provider: str, model: str) -> Mapping[str, Fraction]:
    rates: dict[str, str] = _entry(provider, model)["usd_per_million_tokens"]
    return {name: Fraction(rate) for name, rate in rates.items()}


def _entry(provider: str, model: str) -> Mapping[str, Any]:
    entries: list[dict[str, Any]] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    found = [
        entry
        for entry in entries
        if entry["provider"] == provider and entry["model"] == model
    ]
    assert len(found) == 1, f"{provider}/{model} stands {len(found)} times in the list"
    assert "above_input_tokens" not in found[0], (
        "these tests price no long-context model"
    )
    return found[0]
