"""The demo's own start and stop."""

from pathlib import Path

from conftest import OpenAiCaller
from demo import running_demo
from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def test_an_interrupt_lets_a_stream_finish_and_the_next_start_has_the_same_keys(
    tmp_path: Path,
) -> None:
    data_folder = tmp_path / "data"
    with running_demo(data_folder, tmp_path / "first.log") as first:
        app = OpenAiCaller.connect(first, first.keys.app)
        with app.client.chat.completions.create(
            model="gpt-4o-mini",
            messages=MESSAGES,
            stream=True,
            extra_headers={"x-demo-chunks": "20", "x-demo-chunk-delay-ms": "20"},
        ) as stream:
            chunks = iter(stream)
            spelt = next(chunks).choices[0].delta.content or ""
            first.interrupt()
            for chunk in chunks:
                spelt += chunk.choices[0].delta.content or ""
        assert spelt.endswith("You said: hello")
        assert first.exit_code() == 0, first.log_tail()
    with running_demo(data_folder, tmp_path / "second.log") as second:
        assert second.keys == first.keys
        second.interrupt()
        assert second.exit_code() == 0, second.log_tail()
