"""Check an exported file by free generation through llama.cpp: `python -m training.evaluate FILE.gguf`.

Fresh samples of the training distribution, greedy, without any grammar: this finds a broken export or an untrained model. How
well the model does on wordings and tools that it never saw is measured by the benchmark, not here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jinja2
from llama_cpp import Llama

from training.dialect import ESCALATE, answer_text, openai_tools
from training.sentences import Group, Part, Sentences

__all__ = ["evaluate", "figures"]

_MOST_TOKENS = 120


class Writer:
    """The model in the file, writing greedily after prompts of its own template."""

    def __init__(self, file: str) -> None:
        # the extra buffer types repack weights for instructions that some CPUs announce and fail to run
        self._llama = Llama(file, n_ctx=1024, n_threads=1, verbose=False, use_extra_bufts=False)
        self._template = jinja2.Environment().from_string(self._llama.metadata["tokenizer.chat_template"])

    def write(self, group: Group, messages: list[dict[str, Any]]) -> str:
        prompt = self._template.render(tools=openai_tools(group), messages=messages, add_generation_prompt=True)
        ids = self._llama.tokenize(prompt.encode(), add_bos=False, special=True)
        tokens = self._llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0)
        ended = itertools.takewhile(lambda token: token != self._llama.token_eos(), tokens)
        made = list(itertools.islice(ended, _MOST_TOKENS))
        written: bytes = self._llama.detokenize(made, prev_tokens=ids, special=True)
        return written.decode(errors="replace")


def evaluate(writer: Writer, groups: Iterator[Group], show: int = 0) -> Counter[str]:
    """Counts of what was wanted and what was written."""
    seen: Counter[str] = Counter()
    for group in groups:
        for part in group.parts:
            wanted = answer_text(part).removesuffix("<|end|>")
            written = writer.write(group, [{"role": "user", "content": part.sentence}])
            seen += _judge(part, written, wanted)
            if part.wording:
                seen["wordings"] += 1
                seen["faithful wordings"] += _faithful(writer.write(group, _after_call(part)), part)
            if show > 0 and written != wanted:
                show -= 1
                print(f"{part.sentence}\n    {written}\n    {wanted}")
    return seen


def _judge(part: Part, written: str, wanted: str) -> Counter[str]:
    head = wanted.split('"arguments"')[0]
    return Counter(
        {
            "calls": bool(part.call),
            "right calls": bool(part.call) and written == wanted,
            "right tools": bool(part.call) and written.startswith(head),
            "no tool": not part.call,
            "said no tool": written == ESCALATE,
            "rightly said": written == wanted == ESCALATE,
        }
    )


def _after_call(part: Part) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": part.sentence},
        {"role": "assistant", "content": "", "tool_calls": [json.loads(part.call)]},
        {"role": "tool", "content": part.result},
    ]


def _faithful(written: str, part: Part) -> bool:
    """Many wordings are right; one that states a number of its own, or no value of the result, is not."""
    values = [str(value).lower() for value in json.loads(part.result).values()]
    stated = set(re.findall(r"\d+(?:\.\d+)?", written))
    known = set(re.findall(r"\d+(?:\.\d+)?", f"{part.result} {part.call}"))
    return stated <= known and any(value in written.lower() for value in values)


def figures(seen: Counter[str]) -> dict[str, float]:
    """Shares of 1."""
    pairs = {
        "right tool": ("right tools", "calls"),
        "call exact": ("right calls", "calls"),
        "no-tool recall": ("rightly said", "no tool"),
        "no-tool precision": ("rightly said", "said no tool"),
        "wording faithful": ("faithful wordings", "wordings"),
    }
    return {name: seen[part] / max(1, seen[whole]) for name, (part, whole) in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--seed", type=int, default=31_337)
    parser.add_argument("--show", type=int, default=10, help="print this many wrong answers")
    options = parser.parse_args()
    groups = itertools.islice(Sentences().groups(options.seed), options.groups)
    seen = evaluate(Writer(options.file), groups, options.show)
    print({name: round(value, 3) for name, value in figures(seen).items()}, dict(seen))


if __name__ == "__main__":
    main()
