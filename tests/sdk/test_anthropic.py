"""The Anthropic SDK through the gateway."""

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlock, TextBlockParam, Usage
from conftest import AnthropicCaller
from demo import Demo
from prices import Tokens, cost_nanos, nanos_of_header

ANSWER = "This is RateGuard's demo upstream, not a model. You said: Grüße, 世界"
MESSAGES: list[MessageParam] = [{"role": "user", "content": "Grüße, 世界"}]
MODEL = "claude-haiku-4-5"
DATED_MODEL = "claude-haiku-4-5-20251001"
OUTPUT_TOKENS_MAX = 1_000
CALLS_IN_TWO_WINDOWS = 4


def tokens_of(usage: Usage) -> Tokens:
    """The vendor's input tokens exclude what was read from the cache or written to it."""
    written = usage.cache_creation
    return Tokens(
        plain_input=usage.input_tokens,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write_5m=written.ephemeral_5m_input_tokens if written else 0,
        cache_write_1h=written.ephemeral_1h_input_tokens if written else 0,
        output=usage.output_tokens,
    )


def text_of(message: anthropic.types.Message) -> str:
    """The text of all text blocks."""
    blocks = [block for block in message.content if isinstance(block, TextBlock)]
    return "".join(block.text for block in blocks)


@pytest.fixture
def app(demo: Demo) -> AnthropicCaller:
    return AnthropicCaller.connect(demo, demo.keys.app)


def test_a_plain_answer_has_the_text_and_costs_its_list_price(
    app: AnthropicCaller,
) -> None:
    raw = app.client.messages.with_raw_response.create(
        model=MODEL, max_tokens=OUTPUT_TOKENS_MAX, messages=MESSAGES
    )
    answer = raw.parse()
    assert text_of(answer) == ANSWER
    assert answer.model == DATED_MODEL
    expected = cost_nanos("anthropic", answer.model, tokens_of(answer.usage))
    assert expected > 0
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == expected
    assert len(app.attempts) == 1


def test_each_class_of_cached_tokens_costs_its_own_rate(app: AnthropicCaller) -> None:
    knobs = {
        "x-demo-input-tokens": "4003",
        "x-demo-cached-tokens": "1001",
        "x-demo-output-tokens": "55",
    }
    for ttl, written in [("5m", "cache_write_5m"), ("1h", "cache_write_1h")]:
        system: TextBlockParam = {"type": "text", "text": "Be brief."}
        system["cache_control"] = {
            "type": "ephemeral",
            "ttl": "1h" if ttl == "1h" else "5m",
        }
        raw = app.client.messages.with_raw_response.create(
            model=MODEL,
            max_tokens=OUTPUT_TOKENS_MAX,
            system=[system],
            messages=MESSAGES,
            extra_headers=knobs,
        )
        tokens = tokens_of(raw.parse().usage)
        assert tokens.cache_read == 1_001
        assert getattr(tokens, written) == 1_000
        assert tokens.plain_input == 4_003 - 1_001 - 1_000
        expected = cost_nanos("anthropic", DATED_MODEL, tokens)
        assert nanos_of_header(raw.headers["x-rateguard-cost"]) == expected


def test_the_answers_cost_and_its_events_are_the_same(
    demo: Demo, app: AnthropicCaller
) -> None:
    raw = app.client.messages.with_raw_response.create(
        model=MODEL, max_tokens=OUTPUT_TOKENS_MAX, messages=MESSAGES
    )
    event = demo.usage_event(raw.headers["x-rateguard-request-id"])
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == event.cost_nanos
    assert event.exactness == "EXACT"


def test_a_stream_has_the_text_and_costs_its_list_price(
    demo: Demo, app: AnthropicCaller
) -> None:
    knobs = {
        "x-demo-input-tokens": "901",
        "x-demo-cached-tokens": "300",
        "x-demo-output-tokens": "203",
        "x-demo-chunks": "20",
    }
    with app.client.messages.stream(
        model=MODEL,
        max_tokens=OUTPUT_TOKENS_MAX,
        messages=MESSAGES,
        extra_headers=knobs,
    ) as stream:
        request_id = stream.response.headers["x-rateguard-request-id"]
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    tokens = Tokens(plain_input=601, cache_read=300, output=203)
    assert tokens_of(final.usage) == tokens
    assert text_of(final) == ANSWER
    event = demo.usage_event(request_id)
    assert event.request_id == request_id
    assert event.cost_nanos == cost_nanos("anthropic", DATED_MODEL, tokens)
    assert event.exactness == "EXACT"


def test_the_raw_events_come_in_the_vendors_order(app: AnthropicCaller) -> None:
    with app.client.messages.create(
        model=MODEL, max_tokens=OUTPUT_TOKENS_MAX, messages=MESSAGES, stream=True
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.index("content_block_stop") < kinds.index("message_delta")


def test_an_unknown_key_raises_the_sdks_authentication_error(demo: Demo) -> None:
    stranger = AnthropicCaller.connect(demo, "rg_live_nobody")
    with pytest.raises(anthropic.AuthenticationError):
        stranger.client.messages.create(
            model=MODEL, max_tokens=OUTPUT_TOKENS_MAX, messages=MESSAGES
        )
    assert len(stranger.attempts) == 1


def test_a_full_rate_window_raises_rate_limit_error(demo: Demo) -> None:
    tight = AnthropicCaller.connect(demo, demo.keys.tight)
    impatient = tight.client.with_options(max_retries=0)
    with pytest.raises(anthropic.RateLimitError) as refused:
        for _call in range(CALLS_IN_TWO_WINDOWS + 1):
            impatient.messages.create(
                model=MODEL, max_tokens=OUTPUT_TOKENS_MAX, messages=MESSAGES
            )
    headers = refused.value.response.headers
    assert refused.value.status_code == 429
    assert headers["x-ratelimit-limit"] == "2"
    assert headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 60
    assert 1 <= int(headers["retry-after-ms"]) <= 60_000
    assert len(tight.attempts) <= CALLS_IN_TWO_WINDOWS + 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_exhausted_budget_is_one_attempt_only(demo: Demo, stream: bool) -> None:
    broke = AnthropicCaller.connect(demo, demo.keys.broke)
    assert broke.client.max_retries > 0, "the SDK would retry if it were told nothing"
    with pytest.raises(anthropic.APIStatusError) as refused:
        broke.client.messages.create(
            model=MODEL,
            max_tokens=OUTPUT_TOKENS_MAX,
            messages=MESSAGES,
            stream=stream,
        )
    assert refused.value.status_code == 402
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(broke.attempts) == 1
