"""Builds the images of service and Locust and runs them: `python -m deploy.container_test [--bundle DIR]`.

For a machine without a container registry: the base image is a stand-in, Debian with its own Python, made by
debootstrap once and kept by podman. So this tests the Dockerfile and what it builds, not the real base image.
Needs root on Debian; ends with exit code 2 and the names of what is missing.
"""

import argparse
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.containers import (
    CONFINED,
    CONTAINERS_CONF,
    IMAGE,
    LOAD_IMAGE,
    ROOT,
    Container,
    build,
    container,
    make_base,
    run,
)
from launch.bundles import copied, located
from launch.redis import RedisServer
from launch.waiting import until_ready

PACKAGES = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "debootstrap": "debootstrap",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="bundle to serve; a tiny untrained one if absent")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml in the service image")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # for a tiny bundle
    missing = sorted(package for command, package in PACKAGES.items() if shutil.which(command) is None)
    if os.geteuid() != 0 or missing:
        print(f"needs root and, from Debian: {', '.join(missing) or 'nothing more'}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        configuration = Path(scratch) / "containers.conf"
        configuration.write_text(CONTAINERS_CONF)
        os.environ["CONTAINERS_CONF"] = str(configuration)
        base = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert base is not None
        make_base(f"docker.io/library/{base[1]}", Path(scratch) / "root")
        build(IMAGE, "service", extras=arguments.extras)
        build(LOAD_IMAGE, "load")
        bundle = Path(scratch) / "bundle"
        copy_bundle(arguments.bundle, bundle)
        try_image(bundle)
    print("container-test: ok")
    return 0


def copy_bundle(given: Path | None, target: Path) -> None:
    """The bundle, readable by the image's user."""
    if given is None:
        from tiny_bundle import build_tiny_bundle

        build_tiny_bundle(target)
    else:
        shutil.copytree(located(given), target)
    target.parent.chmod(0o755)
    make_readable(target)


def make_readable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def known_ids(bundle: Path) -> list[str]:
    """Of the catalogue, a list's worth."""
    return [str(item) for item in np.load(bundle / "catalogue.npz")["ids"][:24]]


def try_image(bundle: Path) -> None:
    """One worker without any writable disk, then two with a Redis and a writable /tmp, then versions."""
    with container(bundle) as one:
        check_confinement(one)
        check_reranks(one, bundle)
        print(f"one worker: {one.resident_mb():.0f} MB resident")
        run("podman", "healthcheck", "run", one.name)
        check_load(bundle)
        one.stop()
    with RedisServer() as redis:
        workers = ("-e", "RERANK_WORKERS=2", "-e", f"RERANK_REDIS_URL={redis.url}")
        with container(bundle, "--tmpfs", "/tmp", *workers) as two:
            check_reranks(two, bundle)
            print(f"two workers: {two.resident_mb():.0f} MB resident, their supervisor included")
            two.stop()
        try_versions(bundle, redis, workers)


def try_versions(bundle: Path, redis: RedisServer, workers: Sequence[str]) -> None:
    """Two versions of one model and two workers: one takes over, is rolled back, then looks on as a shadow.
    The service is told by the command in its own image, as an operator would."""
    models = bundle.with_name("models")
    for version in ("1", "2"):
        copied(bundle, models, "films", version)
    (models / "films" / "current").symlink_to("1")
    make_readable(models)
    redis.client.flushall()
    key = secrets.token_urlsafe(32)
    let_in = f'[all]\nsha256 = ["{hashlib.sha256(key.encode()).hexdigest()}"]\n'
    let_in += 'scopes = ["rerank", "feedback", "metrics", "admin"]\n'
    with container(models, "--tmpfs", "/tmp", *workers, "-e", f"RERANK_API_KEYS={let_in}", key=key) as both:
        for told, version in (
            (("load", "films", "2"), "1"),
            (("shares", "films", "2=1"), "2"),
            (("rollback", "films"), "1"),
            (("shadow", "films", "2"), "1"),
        ):
            started = time.monotonic()
            both.administer(*told)
            print(
                f"{' '.join(told)}: {time.monotonic() - started:.1f} s with the command's start", flush=True
            )
            assert answered_by(both, bundle) == {version}, told
        until_ready("the shadow", lambda: compared(both) > 0)
        print(f"a shadow compared {compared(both):.0f} lists, {both.resident_mb():.0f} MB resident")
        both.stop()


def answered_by(service: Container, bundle: Path) -> set[str]:
    """The versions that answer 40 requests of as many people, whichever worker gets them."""
    items = [{"id": item} for item in known_ids(bundle)]
    asked = ({"user_id": f"person {number}", "items": items} for number in range(40))
    answers = [service.ask("/v1/rerank", body)[1] for body in asked]
    assert all(answer["fallback"] is None for answer in answers), answers
    return {answer["model_version"] for answer in answers}


def compared(service: Container) -> float:
    """Lists that the second version wrote as a shadow, too."""
    series = r'^rerank_shadow_requests_total\{(?=.*version="2")(?=.*result="compared").*\} (\S+)$'
    return sum(map(float, re.findall(series, service.read("/metrics").decode(), re.MULTILINE)))


def check_confinement(service: Container) -> None:
    """What the kernel says about the process, not what was requested."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{service.pid()}/status").read_text().splitlines()
    )
    assert int(status["Uid"].split()[0]) == 10001, status["Uid"]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, "no capabilities"
    assert status["NoNewPrivs"] == "1"
    for folder in ("/app", "/venv", "/tmp", "/bundle"):
        code = f"open({folder + '/written'!r}, 'w')"
        written = subprocess.run(
            ["podman", "exec", service.name, "python", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        assert written.returncode != 0, f"{folder} can be written"
        assert "Read-only file system" in written.stderr or "Permission denied" in written.stderr, (
            written.stderr
        )
    installed = run(
        "podman", "exec", service.name, "python", "-c", "import os; print(os.listdir('/venv/bin'))"
    )
    assert "pip" not in installed


def check_reranks(service: Container, bundle: Path) -> None:
    """A list is re-ranked by the model, and feedback on it is in the user's context afterwards."""
    ids = known_ids(bundle)
    asked = {"user_id": "somebody", "items": [{"id": item} for item in ids]}
    status, answer = service.ask("/v1/rerank", asked)
    assert (status, answer["fallback"]) == (200, None), answer
    ranked = [result["id"] for result in answer["results"]]
    assert len(ranked) == len(set(ranked)) > 0
    assert set(ranked) <= set(ids)
    click = {"type": "click", "item_id": ranked[0]}
    feedback = {"recommendation_id": answer["recommendation_id"], "events": [click]}
    assert service.ask("/v1/feedback", feedback)[0] == 202
    for _ in range(10):
        assert service.ask("/v1/rerank", asked)[1]["context"] == "hit", "whichever worker answers"


def check_load(bundle: Path) -> None:
    """Locust's image asks for five seconds, confined too: errors fail it, slowness does not."""
    options = ("--headless", "--users", "2", "--run-time", "5s", "--slo-p99-ms", "60000")
    options += ("--slo-fallback-ratio", "1")
    target = ("--host", f"http://127.0.0.1:{Container.port}")
    confined = (*CONFINED, "-v", f"{bundle}:/bundle:ro")
    run("podman", "run", "--rm", *confined, LOAD_IMAGE, *target, *options, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
