"""The OpenAI SDK through the gateway."""

import openai
import pytest
from conftest import OpenAiCaller
from demo import Demo
from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionStreamOptionsParam,
)
from prices import Tokens, cost_nanos, nanos_of_header

ANSWER = "This is RateGuard's demo upstream, not a model. You said: Grüße, 世界"
MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Grüße, 世界"}
]
MODEL = "gpt-4o-mini"
DATED_MODEL = "gpt-4o-mini-2024-07-18"
CALLS_IN_TWO_WINDOWS = 4


def tokens_of(usage: CompletionUsage) -> Tokens:
    """Cached tokens stand inside the prompt's, reasoning inside the completion's."""
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details else None) or 0
    return Tokens(
        plain_input=usage.prompt_tokens - cached,
        cache_read=cached,
        output=usage.completion_tokens,
    )


def spelt(chunks: list[ChatCompletionChunk]) -> str:
    """The text that the chunks spell."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return "".join(delta.content or "" for delta in deltas)


@pytest.fixture
def app(demo: Demo) -> OpenAiCaller:
    return OpenAiCaller.connect(demo, demo.keys.app)


def test_a_plain_answer_has_the_text_and_costs_its_list_price(
    app: OpenAiCaller,
) -> None:
    raw = app.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == ANSWER
    assert answer.model == DATED_MODEL
    assert answer.usage is not None
    expected = cost_nanos("openai", answer.model, tokens_of(answer.usage))
    assert expected > 0
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == expected
    assert len(app.attempts) == 1


@pytest.mark.parametrize("cached_tokens", [0, 1, 1_000, 1_337])
def test_cached_tokens_cost_their_own_rate(
    app: OpenAiCaller, cached_tokens: int
) -> None:
    knobs = {
        "x-demo-input-tokens": "1337",
        "x-demo-output-tokens": "77",
        "x-demo-cached-tokens": str(cached_tokens),
    }
    raw = app.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, extra_headers=knobs
    )
    tokens = Tokens(
        plain_input=1_337 - cached_tokens, cache_read=cached_tokens, output=77
    )
    usage = raw.parse().usage
    assert usage is not None
    assert tokens_of(usage) == tokens
    expected = cost_nanos("openai", DATED_MODEL, tokens)
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == expected


def test_reasoning_is_part_of_the_output_and_charged_once(app: OpenAiCaller) -> None:
    raw = app.client.chat.completions.with_raw_response.create(
        model="gpt-5-mini",
        messages=MESSAGES,
        extra_headers={"x-demo-output-tokens": "400"},
    )
    answer = raw.parse()
    assert answer.usage is not None and answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens == 400
    assert answer.usage.completion_tokens_details.reasoning_tokens == 100
    expected = cost_nanos("openai", answer.model, tokens_of(answer.usage))
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == expected


def test_the_answers_cost_and_its_events_are_the_same(
    demo: Demo, app: OpenAiCaller
) -> None:
    raw = app.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES
    )
    event = demo.usage_event(raw.headers["x-rateguard-request-id"])
    assert nanos_of_header(raw.headers["x-rateguard-cost"]) == event.cost_nanos
    assert event.exactness == "EXACT"


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_has_the_text_and_costs_its_list_price(
    demo: Demo, app: OpenAiCaller, include_usage: bool
) -> None:
    knobs = {
        "x-demo-input-tokens": "901",
        "x-demo-output-tokens": "203",
        "x-demo-cached-tokens": "256",
        "x-demo-chunks": "20",
    }
    options: ChatCompletionStreamOptionsParam = {"include_usage": include_usage}
    with app.client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        stream=True,
        stream_options=options,
        extra_headers=knobs,
    ) as stream:
        request_id = stream.response.headers["x-rateguard-request-id"]
        chunks = list(stream)
    assert spelt(chunks) == ANSWER
    tokens = Tokens(plain_input=901 - 256, cache_read=256, output=203)
    reported = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [tokens_of(usage) for usage in reported] == ([tokens] * include_usage)
    event = demo.usage_event(request_id)
    assert event.request_id == request_id
    assert event.cost_nanos == cost_nanos("openai", DATED_MODEL, tokens)
    assert event.exactness == "EXACT"


def test_a_caller_who_asked_for_no_usage_sees_no_chunk_without_choices(
    app: OpenAiCaller,
) -> None:
    with app.client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True
    ) as stream:
        chunks = list(stream)
    assert spelt(chunks) == ANSWER
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_list_of_models_passes_through(app: OpenAiCaller) -> None:
    assert DATED_MODEL in [model.id for model in app.client.models.list()]


def test_an_unknown_key_raises_the_sdks_authentication_error(demo: Demo) -> None:
    stranger = OpenAiCaller.connect(demo, "rg_live_nobody")
    with pytest.raises(openai.AuthenticationError):
        stranger.client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert len(stranger.attempts) == 1


def test_a_full_rate_window_raises_rate_limit_error(demo: Demo) -> None:
    tight = OpenAiCaller.connect(demo, demo.keys.tight)
    impatient = tight.client.with_options(max_retries=0)
    with pytest.raises(openai.RateLimitError) as refused:
        for _call in range(CALLS_IN_TWO_WINDOWS + 1):
            impatient.chat.completions.create(model=MODEL, messages=MESSAGES)
    headers = refused.value.response.headers
    assert refused.value.status_code == 429
    assert headers["x-ratelimit-limit"] == "2"
    assert headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 60
    assert 1 <= int(headers["retry-after-ms"]) <= 60_000
    assert len(tight.attempts) <= CALLS_IN_TWO_WINDOWS + 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_exhausted_budget_is_one_attempt_only(demo: Demo, stream: bool) -> None:
    broke = OpenAiCaller.connect(demo, demo.keys.broke)
    assert broke.client.max_retries > 0, "the SDK would retry if it were told nothing"
    with pytest.raises(openai.APIStatusError) as refused:
        broke.client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=stream
        )
    assert refused.value.status_code == 402
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(broke.attempts) == 1
