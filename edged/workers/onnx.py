"""The child that runs the small ONNX encoders: `python -m edged.workers.onnx`.

Verbs: `load`, `embed`, `teach` (the tools of an agent, kept under a key), `understand` (a sentence against them), `learn`
(classes from examples, see `fewshot`), `classify`, `search` and `hold` (vectors, see `nearest`), `ping`. One thread of computing
unless told otherwise, no memory arena, no spinning: on a device, what is not in use belongs to others. What is taught, learnt or
held is forgotten with the process; `understand`, `classify` and `search` say so, and the daemon tells it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is loaded; more would spin beside the model

import numpy as np

from edged.domain.errors import BadRequest, ModelBroken
from edged.workers.cross import CrossEncoder, Glance, Row, Tool
from edged.workers.encoding import CARD, SENTENCE, Encoder, Floats, features_of
from edged.workers.fewshot import FewShot, Metric, Posteriors
from edged.workers.nearest import Nearest
from edged.workers.serve import Call, arguments, serve
from edged.workers.shortlist import Shortlist, Words
from edged.workers.wordpieces import CardTokens

__all__ = ["Backend"]

_FILES = "encoder.onnx, ground.onnx, glance.onnx, reader.onnx, words.npz, metric.npz and tokenizer.json"
_SEEN = ("states", "tops", "vector")
_TOOLSETS = 16
_TRIM_AFTER = 40  # sentences: giving back takes a millisecond, and what they leave lying is some tens of megabytes
_CLEAR = 4.25  # a score against 0 that another tool beats in less than one of 200 requests (development tools)
_BEHIND = 8.0  # a score so far behind the best that likeness does not make up for it, and nobody will ask what was read
_DULL = -2.5  # a glance's score below which a tool is not meant: half of the wrong ones, and none of 120 right ones


@dataclass(frozen=True, slots=True)
class _Toolset:
    """The tools of an agent, which of them a sentence may mean, and what their examples say to that (None: there are none)."""

    tools: list[Tool]
    shortlist: Shortlist
    examples: Posteriors | None


class Backend:
    """The models of this process and the handlers of its verbs."""

    def __init__(self) -> None:
        self._encoder: Encoder | None = None
        self._reader: CrossEncoder | None = None
        self._metric: Metric | None = None
        self._words = Words()
        self._usual: list[Floats] = []
        self._taught: OrderedDict[str, _Toolset] = OrderedDict()
        self._read_since = 0
        self._learnt: OrderedDict[str, FewShot] = OrderedDict()

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            raise ModelBroken("no model is loaded")
        return self._encoder

    def load(self, call: Call) -> dict[str, Any]:
        """{path: a folder, threads: 0 is one} -> {load_seconds}."""
        started = time.monotonic()
        folder, threads = Path(call.params["path"]), call.params["threads"] or 1
        encoder = Encoder(folder, threads)
        reader = CrossEncoder(folder, threads, encoder.pieces) if (folder / "reader.onnx").exists() else None
        metric = Metric.read(folder / "metric.npz") if (folder / "metric.npz").exists() else None
        try:  # the library allocates what it needs, and files that do not belong together show it
            ids = encoder.pieces.extremes()
            states, tops, vectors = encoder.run([ids], SENTENCE, *_SEEN)
            if metric is not None:
                metric.shape(features_of(states[0], vectors[0])[None])
            if reader is not None:
                ground = reader.ground(states[0], tops[0])
                tool = Tool(CardTokens(ids, (0,), ((),)), ground)
                reader.read(reader.glance(ground, ids, tool), len(ids))
            words = Words.read(folder / "words.npz")
            usual = [words.of(tops) for tops, _ in encoder.words(_lines(folder / "usual.txt"))]
        except Exception as error:
            detail = f"{_FILES} do not fit together: {str(error)[:200]}"
            raise ModelBroken(detail, path=str(folder)) from None
        self._encoder, self._reader, self._metric = encoder, reader, metric
        self._words, self._usual = words, usual
        _give_back()
        return {"load_seconds": time.monotonic() - started}

    def embed(self, call: Call) -> dict[str, Any]:
        """{texts} -> {width, vectors: float32 little-endian, a row a text}."""
        vectors = self.encoder.embed(call.params["texts"])
        if len(vectors) > 1:
            _give_back()
        return {"width": int(vectors.shape[1]), "vectors": vectors.astype("<f4").tobytes()}

    def teach(self, call: Call) -> None:
        """{key, tools: [{head, slots, about, examples}]}: keep the tools of an agent under `key`. A slot is {text, choices, kind,
        values, most}: the reader sees `text` and `choices`, the rest tells what value its words are (see `agent/cards`)."""
        tools = call.params["tools"]
        tokens = [self.encoder.pieces.card(tool["head"], _shown(tool["slots"])) for tool in tools]
        texts = [text for tool in tools for text in (tool["about"], *tool["examples"])]
        encoded, taught, words = iter(self.encoder.words(texts)), [], []
        features: list[Floats] = []
        labels: list[int] = []
        for number, (tool, card) in enumerate(zip(tools, tokens, strict=True)):
            states, tops = self.encoder.run([card.ids], CARD, "states", "tops")
            ground = states[0] if self._reader is None else self._reader.ground(states[0], tops[0])
            taught.append(Tool(card, ground, tool["slots"]))
            about, *examples = [next(encoded) for _ in ("about", *tool["examples"])]
            words.append([self._words.of(tops) for tops, _ in (about, *examples)])
            features += [feature for _, feature in examples]
            labels += [number] * len(examples)
        learnt = self._posteriors(features, labels, len(tools))
        self._taught[call.params["key"]] = _Toolset(taught, Shortlist(words, self._usual), learnt)
        while len(self._taught) > _TOOLSETS:
            self._taught.popitem(last=False)
        _give_back()

    def _posteriors(self, features: list[Floats], labels: list[int], count: int) -> Posteriors | None:
        if self._metric is None or not features:
            return None
        points = self._metric.project(self._metric.shape(np.stack(features)))
        return Posteriors(self._metric.between, points, np.array(labels), count)

    def understand(self, call: Call) -> dict[str, Any]:
        """{text, key, most} -> {known: False} when `teach` has to come first, else {known, cut, tools: [...]}, likeliest first.

        A tool is {index, like, llr, act, part, slots}: its likeness (see `shortlist`), what its examples say (see `Posteriors`),
        scores against 0 for "none", and for each slot either {options} or {spans, absent, stated} (see `reading`): a span is (first
        character, behind the last, probability, values), its values are those of `values.Reading.spans`, and `stated` is
        `values.Reading.stated`; a tool that a glance rules out has no slots. At most `most` tools are read, a few at a time until
        one is clearly meant; the others are too unlike.
        """
        taught = self._taught.get(call.params["key"])
        if taught is None:
            return {"known": False}
        self._taught.move_to_end(call.params["key"])
        if self._reader is None:
            raise BadRequest("this model encodes and does not read")
        text = call.params["text"]
        tokens = self.encoder.pieces.sentence(text)
        states, tops, vectors = self.encoder.run([tokens.ids], SENTENCE, *_SEEN)
        likeness, tools = taught.shortlist.likeness(self._words.of(tops[0])), taught.tools
        llr = self._llr(taught.examples, states[0], vectors[0], len(tools))
        order = sorted(range(len(tools)), key=lambda i: -likeness[i])[: call.params["most"]]
        ground = self._reader.ground(states[0], tops[0])
        rows = self._look(ground, tokens.ids, [(tools[i], llr[i] > 0) for i in order])
        now = datetime.now()
        least = max(max(row.act, row.part) for row in rows) - _BEHIND
        found = [
            {
                "index": i,
                "like": float(likeness[i]),
                "llr": float(llr[i]),
                "act": row.act,
                "part": row.part,
                "slots": row.slots(text, tokens, now)
                if isinstance(row, Row) and (row.act > least or llr[i] > 0)
                else [],
            }
            for i, row in zip(order, rows, strict=False)
        ]
        self._read_since += 1
        if self._read_since >= _TRIM_AFTER:
            self._read_since = 0
            _give_back()
        return {"known": True, "cut": tokens.cut, "tools": found}

    def _look(self, sentence: Floats, ids: Sequence[int], tools: Sequence[tuple[Tool, bool]]) -> list[Glance | Row]:
        """At one tool after another until one is clearly meant. Read is what is worth it: what a glance does not rule out, and
        what examples speak for (the second of each pair)."""
        assert self._reader is not None
        found: list[Glance | Row] = []
        for tool, backed in tools:
            glance = self._reader.glance(sentence, ids, tool)
            worth = backed or max(glance.act, glance.part) > _DULL
            found.append(self._reader.read(glance, len(sentence)) if worth else glance)
            if max(found[-1].act, found[-1].part) > _CLEAR:
                break
        return found

    def _llr(self, examples: Posteriors | None, states: Floats, vector: Floats, count: int) -> Sequence[float]:
        if self._metric is None or examples is None:
            return [0.0] * count
        points = self._metric.project(self._metric.shape(features_of(states, vector)[None]))
        return [float(ratio) for ratio in examples.llr(points)[0]]

    def learn(self, call: Call) -> dict[str, Any]:
        """{key, examples: [[text, label], ...]} -> {labels}: keep the classes under `key`."""
        examples = call.params["examples"]
        if self._metric is None or not examples:
            raise BadRequest("there are no examples" if self._metric else "this model does not learn")
        labels = sorted({label for _, label in examples})
        features = self.encoder.features([text for text, _ in examples])
        at = {label: i for i, label in enumerate(labels)}
        learnt = FewShot.fit(self._metric, features, [at[label] for _, label in examples], labels)
        self._learnt[call.params["key"]] = learnt
        while len(self._learnt) > _TOOLSETS:
            self._learnt.popitem(last=False)
        _give_back()
        return {"labels": labels}

    def classify(self, call: Call) -> dict[str, Any]:
        """{key, texts} -> {known: False} when `learn` has to come first, else {known, found}, a {label, p, llr, scope} a text."""
        learnt = self._learnt.get(call.params["key"])
        if learnt is None:
            return {"known": False}
        self._learnt.move_to_end(call.params["key"])
        return {"known": True, "found": learnt.best(self.encoder.features(call.params["texts"]))}

    def ping(self, call: Call) -> None:
        """Nothing: the answer is that it was reached."""


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _give_back() -> None:
    """The allocator keeps what a large batch took, a third of the process; the device has others who need it."""
    with contextlib.suppress(AttributeError):  # musl has no such call, and gives back by itself
        ctypes.CDLL(None).malloc_trim(0)


def _shown(slots: Sequence[dict[str, Any]]) -> list[tuple[str, Sequence[str]]]:
    return [(slot["text"], slot["choices"]) for slot in slots]


def main() -> None:
    connection, _ = arguments()
    backend, nearest = Backend(), Nearest()
    handlers = {
        "load": backend.load,
        "embed": backend.embed,
        "teach": backend.teach,
        "understand": backend.understand,
        "learn": backend.learn,
        "classify": backend.classify,
        "search": lambda call: nearest.search(**call.params),
        "hold": lambda call: nearest.hold(**call.params),
        "ping": backend.ping,
    }
    serve(connection, handlers, brief=True)


if __name__ == "__main__":
    main()
