"""What a log knows of people, from its file into a real Redis, to a service that re-ranks with it."""

import gzip
import json
from pathlib import Path

import own_log
import pytest
from rerank_client import Serve

from bundle.features.history import Interaction, UserContext
from launch.redis import RedisServer
from model.data import __main__ as data_command
from model.data.event_log import read_event_log
from service import load_histories
from service.context.encoding import decode_context
from service.settings import Settings


def settings(server: RedisServer, **changes: object) -> Settings:
    patient = {"redis_socket_timeout_ms": 60_000, "redis_connect_timeout_ms": 60_000}
    return Settings.model_validate({"bundle": "unused", "redis_url": server.url, **patient, **changes})


def write(path: Path, *people: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in people))
    return path


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    """Of the people of a small log, by the command."""
    log = own_log.write_log(tmp_path / "log.jsonl", users=3)
    config = own_log.write_config(tmp_path / "my.toml")
    out = tmp_path / "histories.jsonl.gz"
    said = own_log.run(data_command.main, "histories", log, "--config", config, "--out", out)
    assert said.endswith("3 people")
    return out


async def test_a_service_starts_knowing_its_people(
    histories: Path, redis_server: RedisServer, serve: Serve
) -> None:
    loaded = await load_histories.load(histories, settings(redis_server, max_history=20))
    assert loaded == (3, 0)
    log = read_event_log(histories.with_name("log.jsonl"), "log")
    async with serve(redis_url=redis_server.url, redis_socket_timeout_ms=60_000) as client:
        for user_id, known in log.people.items():
            assert len(known.history) == 3 * (own_log.SHOWN + 2), "the last list is in it, too"
            told = (await client.get(f"/v1/users/{user_id}/context")).json()
            events = [Interaction(e["item_id"], e["type"], e["timestamp"]) for e in told["history"]]
            assert UserContext(told["profile"], tuple(events)) == UserContext(
                known.profile, known.history[-20:]
            )
        answers = [(await client.rerank(["i1", "i2"], user_id=name)).json() for name in ("u0", "stranger")]
        assert [answer["context"] for answer in answers] == ["hit", "miss"]
    assert 0 < redis_server.client.pttl("rerank:{u0}:context") <= 30 * 24 * 3600 * 1000


def test_who_is_there_is_left_alone_so_that_it_can_be_started_again(
    histories: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    key, newer = "rerank:{u1}:context", b'{}\n["i9","click",1.0]'
    redis_server.client.set(key, newer)
    arguments = [str(histories), "--redis-url", redis_server.url]
    assert load_histories.main(arguments) == 0
    assert "2 people put into Redis, 1 were there" in capsys.readouterr().out
    assert redis_server.client.get(key) == newer
    assert load_histories.main(arguments) == 0
    assert "0 people put into Redis, 3 were there" in capsys.readouterr().out
    assert load_histories.main([*arguments, "--replace"]) == 0
    assert len(decode_context(redis_server.client.get(key)).history) == 3 * (own_log.SHOWN + 2)


def test_more_than_one_round_trip(tmp_path: Path, redis_server: RedisServer) -> None:
    people = [{"user_id": f"u{n}"} for n in range(2 * load_histories.TOGETHER + 1)]
    assert (
        load_histories.main([str(write(tmp_path / "h.jsonl", *people)), "--redis-url", redis_server.url]) == 0
    )
    assert redis_server.client.dbsize() == len(people)


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u" * 129}, "user_id: 1 to 128 characters"),
        ({"profile": {}}, "user_id"),
        ({"user_id": "u", "history": [{"item_id": "i", "type": "click", "timestamp": -1}]}, "timestamp"),
        ({"user_id": "u", "profile": {"age": [1, "x"]}}, "profile.age: expected numbers or texts"),
        (["u"], "Expected `object`"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path,
    redis_server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    person: object,
    message: str,
) -> None:
    path = write(tmp_path / "h.jsonl", {"user_id": "fine"}, person)
    assert load_histories.main([str(path), "--redis-url", redis_server.url]) == 1
    told = capsys.readouterr().err
    assert "h.jsonl:2: " in told
    assert message in told


def test_a_redis_that_is_gone_is_told_of(
    tmp_path: Path, redis_process: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis_process.stop()
    path = write(tmp_path / "h.jsonl", {"user_id": "u"})
    assert load_histories.main([str(path), "--redis-url", redis_process.url]) == 1
    assert "start it again to go on" in capsys.readouterr().err
    assert load_histories.main([str(path), "--redis-url", "http://x"]) == 2
    assert "redis_url: expected one of redis://" in capsys.readouterr().err


def test_gzip_is_told_by_its_bytes_and_may_be_damaged(
    tmp_path: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = gzip.compress(b"".join(b'{"user_id": "g%d"}\n' % number for number in range(1000)))
    whole, cut, changed = (tmp_path / name for name in ("whole", "cut.gz", "changed.jsonl"))
    whole.write_bytes(packed)
    assert load_histories.main([str(whole), "--redis-url", redis_server.url]) == 0
    assert capsys.readouterr().out.startswith("1000 people put into Redis")
    cut.write_bytes(packed[:-100])
    changed.write_bytes(packed[:-8] + b"\0" * 8)
    for path in (cut, changed):
        assert load_histories.main([str(path), "--redis-url", redis_server.url]) == 1
        assert capsys.readouterr().err.startswith(f"{path}: damaged gzip: ")
