"""The decision log: every list and what came of it, and nothing that slows or fails a request."""

import gzip
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from eventually import eventually
from faulty_runners import Failing, put_runner
from rerank_client import Serve

from bundle.features.assembly import Candidates
from bundle.features.history import Interaction, UserContext
from decisions.files import listed
from decisions.lines import Decision, Feedback, Forgotten, Line, decode
from decisions.pseudonyms import pseudonym
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from launch.redis import RedisServer
from service.observe.decision_log import DecisionLog
from service.observe.metrics import Metrics
from service.settings import Settings

ITEMS: list[dict[str, Any]] = [
    {"id": "i1", "score": 0.5},
    {"id": "i2", "features": {"price": 9.5, "genres": ["drama", "crime"]}},
    *({"id": f"i{n}"} for n in range(3, 12)),
]
KEY = "a key that nobody knows"
DROPPED, WRITTEN = "rerank_decision_lines_dropped_total", "rerank_decision_lines_total"


def lines(directory: Path) -> list[Line]:
    """All of a log."""
    found = []
    for path in listed(directory):
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found += [decode(line) for line in text.splitlines()]
    return found


async def test_a_list_is_logged_as_it_was_made(serve: Serve, tmp_path: Path) -> None:
    context = {"device": "ios"}
    known = {"profile": {"taste": [0.1, 0.2, 0.3, 0.4]}, "history": [{"item_id": "i4", "type": "click"}]}
    async with serve(decision_log=str(tmp_path / "log")) as client:
        await client.put("/v1/users/u1/context", json=known)
        asked = {"user_id": "u1", "request_id": "r-1", "context": context, "top_n": 5, "explain": True}
        answer = (await client.rerank(ITEMS, return_all=True, **asked)).json()
    (line,) = lines(tmp_path / "log")
    assert isinstance(line, Decision)
    assert [*msgspec.to_builtins(line.items)] == ITEMS
    assert (line.request_id, line.id, line.user_id) == ("r-1", answer["recommendation_id"], "u1")
    assert (line.model, line.model_version) == (answer["model"], answer["model_version"])
    assert (line.context, line.profile, line.wanted) == (context, known["profile"], 5)
    assert [(one.item_id, one.type) for one in line.history] == [("i4", "click")]
    assert [*line.slate] == [result["index"] for result in answer["results"]]
    assert [*line.probability] == [result["score"] for result in answer["results"][:5]]
    assert line.propensity == (1.0,) * 5
    for name in ("reasoning_tokens", "entropy_before", "entropy_after"):
        assert [*getattr(line, name)] == [place[name] for place in answer["reasoning"]["trace"]]
    assert (line.took_ms, line.fallback, line.seed, line.exploration) == (answer["took_ms"], None, None, None)
    assert line.controls == {}


async def test_what_the_model_saw_can_be_made_again(serve: Serve, bundle: Path, tmp_path: Path) -> None:
    """The time of a request that says none included: ages are counted from it."""
    async with serve(decision_log=str(tmp_path)) as client:
        reasoning = {"entropy_threshold": 0.2, "max_tokens": 1}
        events = [{"item_id": "i4", "type": "click"}, {"item_id": "i7", "type": "impression"}]
        events.append({"item_id": "new", "type": "click", "features": {"price": 3.5}})
        await client.put("/v1/users/u1/context", json={"profile": {}, "history": events})
        await client.rerank(ITEMS, user_id="u1", top_n=6, reasoning=reasoning)
    (line,) = lines(tmp_path)
    assert isinstance(line, Decision)
    assert line.controls == {"entropy_threshold": 0.2, "reasoning_budget": 1}
    model = LoadedModel.open(bundle)
    ids, sent = [item.id for item in line.items], [item.features for item in line.items]
    nan = float("nan")
    scores = [nan if item.score is None else item.score for item in line.items]
    candidates = Candidates(ids, sent, scores, None, None)
    history = tuple(
        Interaction(one.item_id, one.type, None, line.told.get(one.item_id)) for one in line.history
    )
    inputs = model.features.request(candidates, UserContext({}, history), line.context, line.at)
    assert len(inputs["history_numeric"]) == 3
    controls = Controls.default(model.manifest, 6)
    changed = {name: getattr(controls, name) for name in controls.__slots__} | line.controls
    (slate,) = model.generate([inputs], [Controls(**changed)])
    assert [position.index for position in slate.positions] == [*line.slate]
    assert [position.probability for position in slate.positions] == [*line.probability]
    assert [position.entropy_before for position in slate.positions] == [*line.entropy_before]


async def test_feedback_and_forgetting_are_lines_too(serve: Serve, tmp_path: Path) -> None:
    async with serve(decision_log=str(tmp_path)) as client:
        made = (await client.rerank(ITEMS, user_id="u1")).json()["recommendation_id"]
        events = [
            {"item_id": "i1", "type": "click", "timestamp": 5.0, "event_id": "e1"},
            {"item_id": "i1", "type": "click", "event_id": "e1"},
            {"item_id": "i99", "type": "click"},
            {"item_id": "i2", "type": "impression"},
        ]
        body = {"recommendation_id": made, "events": events}
        assert (await client.post("/v1/feedback", json=body)).json()["applied"] == 2
        assert (await client.delete("/v1/users/u1/context")).status_code == 204
        assert isinstance(lines(tmp_path)[-1], Forgotten), "before it is answered"
    decision, feedback, forgotten = lines(tmp_path)
    assert isinstance(decision, Decision)
    assert isinstance(feedback, Feedback)
    assert isinstance(forgotten, Forgotten)
    assert (decision.id, feedback.id) == (made, made)
    assert [one.item_id for one in feedback.outcomes] == ["i1", "i2"], "those that count"
    assert (feedback.outcomes[0].timestamp, feedback.outcomes[0].event_id) == (5.0, "e1")
    assert feedback.outcomes[1].timestamp == feedback.at
    assert feedback.user_id == forgotten.user_id == "u1"
    assert decision.at <= feedback.at <= forgotten.at


@pytest.mark.parametrize(("users", "named"), [("hashed", pseudonym("u1", KEY.encode())), ("none", None)])
async def test_users_are_called_as_is_asked_for(
    serve: Serve, tmp_path: Path, users: str, named: str | None
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    given = {"decision_log_key_file": key} if users == "hashed" else {}
    async with serve(decision_log=str(tmp_path / "log"), decision_log_users=users, **given) as client:
        made = (await client.rerank(ITEMS, user_id="u1")).json()["recommendation_id"]
        await client.rerank(ITEMS)
        body = {"recommendation_id": made, "events": [{"item_id": "i1", "type": "click"}]}
        await client.post("/v1/feedback", json=body)
        assert (await client.delete("/v1/users/u1/context")).status_code == 204
    found = lines(tmp_path / "log")
    assert [line.user_id for line in found] == [named, None, named, *([named] if named else [])]
    assert b'"u1"' not in b"".join(path.read_bytes() for path in listed(tmp_path / "log"))


async def test_fallbacks_anonymous_lists_and_other_shapes_are_logged(serve: Serve, tmp_path: Path) -> None:
    async with serve(decision_log=str(tmp_path)) as client:
        await client.rerank(["x1", "x2"])
        documents = {"model": "eglr", "query": "q", "documents": ["i2", "i1"]}
        shown = (await client.post("/v2/rerank", json=documents)).json()
        await client.rerank(ITEMS, sampling={"temperature": 2.0, "seed": 9}, top_n=3)
        put_runner(client, Failing())
        await client.rerank(ITEMS)
    unknown, document, sampled, failed = lines(tmp_path)
    assert isinstance(unknown, Decision)
    assert (unknown.fallback, unknown.slate, unknown.probability, unknown.id) == ("unknown", (0, 1), (), None)
    assert isinstance(document, Decision)
    assert [*document.slate] == [result["index"] for result in shown["results"]]
    assert document.context == {"query": "q"}
    assert isinstance(sampled, Decision)
    assert sampled.exploration is not None
    assert (sampled.exploration.share, sampled.exploration.temperature, sampled.seed) == (1.0, 2.0, 9)
    assert all(0 < propensity < 1 for propensity in sampled.propensity)
    assert isinstance(failed, Decision)
    assert (failed.fallback, failed.slate) == ("model", tuple(range(10)))


async def test_files_are_their_owners_alone(serve: Serve, tmp_path: Path) -> None:
    async with serve(decision_log=str(tmp_path / "a" / "log")) as client:
        await client.rerank(ITEMS)
    (path,) = listed(tmp_path / "a" / "log")
    assert [found.stat().st_mode & 0o777 for found in (path, path.parent)] == [0o600, 0o700]


async def test_writing_resumes_when_the_place_recovers(serve: Serve, tmp_path: Path) -> None:
    """A file where the directory should be: as good as a disk that is read-only, and root cannot pass it."""
    place = tmp_path / "log"
    place.write_text("in the way")
    async with serve(
        decision_log=str(place), decision_log_flush_s=0.01, decision_log_buffer_lines=3
    ) as client:
        for _ in range(5):
            assert (await client.rerank(ITEMS)).json()["fallback"] is None

        async def down() -> bool:
            return await client.metric("rerank_decision_log_up") == 0

        await eventually(down)
        assert await client.metric(DROPPED) == 2
        place.unlink()

        async def written() -> bool:
            return await client.metric(WRITTEN) == 3

        await eventually(written)
        assert await client.metric("rerank_decision_log_up") == 1
        await client.rerank(ITEMS)
    assert len(lines(place)) == 4


async def test_forgetting_that_cannot_be_written_is_told(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.observe.decision_log.FORGET_S", 0.1)
    place = tmp_path / "log"
    place.write_text("in the way")
    async with serve(decision_log=str(place)) as client:
        assert (await client.delete("/v1/users/u1/context")).status_code == 503


class Slow:
    """A sink that takes nothing until it is let."""

    def __init__(self) -> None:
        self.let, self.taken = Event(), 0

    def start(self) -> None: ...

    def write(self, lines: list[bytes]) -> None:
        self.let.wait()
        self.taken += len(lines)
        lines.clear()

    def due_s(self) -> float | None:
        return None

    def tend(self) -> None: ...

    def close(self) -> None: ...


def settings(**given: Any) -> Settings:
    return Settings(bundle="unused", **{"decision_log_flush_s": 0.001, **given})


@pytest.mark.parametrize(
    "bound", [{"decision_log_buffer_lines": 10}, {"decision_log_buffer_bytes": 1000}], ids=["lines", "bytes"]
)
async def test_what_waits_for_a_slow_sink_is_bounded(bound: dict[str, int]) -> None:
    sink, metrics = Slow(), Metrics()
    log = DecisionLog(sink, settings(**bound), metrics)
    log.start()
    for _ in range(25):
        log.put(lambda hide: Forgotten("u" * 54, 1.0))
    dropped = metrics.decisions_dropped.labels("buffer")
    assert 14 <= dropped.value <= 15
    sink.let.set()
    await log.stop()
    assert sink.taken == metrics.decisions.value == 25 - dropped.value


@pytest.mark.parametrize(
    "bound", [{"decision_log_buffer_lines": 10}, {"decision_log_buffer_bytes": 1000}], ids=["lines", "bytes"]
)
async def test_half_of_what_may_wait_is_written_before_its_time(bound: dict[str, int]) -> None:
    sink, metrics = Slow(), Metrics()
    sink.let.set()
    log = DecisionLog(sink, settings(decision_log_flush_s=3600, **bound), metrics)
    log.start()
    for _ in range(7):
        log.put(lambda hide: Forgotten("u" * 54, 1.0))

    async def written() -> bool:
        return sink.taken >= 6

    await eventually(written)
    await log.stop()
    assert sink.taken == 7


async def test_a_line_that_is_no_json_costs_only_itself() -> None:
    sink, metrics = Slow(), Metrics()
    sink.let.set()
    log = DecisionLog(sink, settings(), metrics)
    log.start()
    log.put(lambda hide: Forgotten(object(), 1.0))  # type: ignore[arg-type]
    await log.forget("u1")
    await log.stop()
    assert (sink.taken, metrics.decisions_dropped.labels("unencodable").value) == (1, 1)


async def test_lines_go_to_a_redis_stream(serve: Serve, redis_server: RedisServer) -> None:
    stream = {"decision_log": redis_server.url, "decision_log_stream": "s", "decision_log_flush_s": 0.01}
    async with serve(**stream) as client:
        await client.rerank(ITEMS)

        async def written(count: int) -> bool:
            return await client.metric(WRITTEN) == count

        await eventually(lambda: written(1))
        redis_server.stop()
        await client.rerank(ITEMS, request_id="while-it-is-away")

        async def down() -> bool:
            return await client.metric("rerank_decision_log_up") == 0

        await eventually(down)
        redis_server.start()
        await eventually(lambda: written(2))
        entries = redis_server.client.xrange("s")
    (line,) = [decode(fields[b"line"]) for _, fields in entries]
    assert isinstance(line, Decision)
    assert line.request_id == "while-it-is-away"


async def test_a_stream_is_bounded(redis_server: RedisServer) -> None:
    from service.observe.decision_stream import DecisionStream

    sink = DecisionStream(redis_server.url, settings(decision_log_stream="s", decision_log_stream_length=100))
    for _ in range(5):
        given = [b"{}"] * 600
        sink.write(given)
        assert not given
    assert 100 <= redis_server.client.xlen("s") <= 300
    sink.close()


async def test_a_full_redis_is_a_fault_and_what_it_took_is_not_sent_again(redis_server: RedisServer) -> None:
    from service.observe.decision_stream import DecisionStream

    sink = DecisionStream(redis_server.url, settings(decision_log_stream="s"))
    redis_server.client.config_set("maxmemory", "1")
    given = [b"{}"] * 3
    with pytest.raises(OSError, match="Redis refuses them"):
        sink.write(given)
    assert len(given) == 3
    redis_server.client.config_set("maxmemory", "0")
    sink.write(given)
    assert redis_server.client.xlen("s") == 3
    sink.close()
