"""What each image installs: from pyproject.toml, pinned, one ONNX Runtime, no torch where it serves."""

import re

import pytest
from dockerfile import DOCKERFILE, ROOT, stages

from deploy.requirements import requirements


@pytest.mark.parametrize(("runtime", "other"), [("cpu", "onnxruntime-gpu"), ("gpu", "onnxruntime")])
def test_what_is_installed_is_one_runtime_and_no_torch(runtime: str, other: str) -> None:
    run = next(rest for word, rest in stages()["service-packages"] if word == "RUN")
    assert 'requirements.py "$RUNTIME" "$EXTRAS"' in run
    assert "cpu|gpu) ;; *)" in run, "the train extra cannot be asked for"
    lines = requirements(ROOT / "pyproject.toml", [runtime, ""])
    names = [re.split(r"[\[<>=~! ]", line)[0] for line in lines]
    assert {"fastapi", "redis", "uvicorn"} < set(names)
    assert not {"torch", "onnx", "lightgbm", "locust", "pytest", other} & set(names)
    assert sum(name.startswith("onnxruntime") for name in names) == 1


def test_every_extra_of_an_image_exists_and_a_made_up_one_is_refused() -> None:
    asked = re.findall(r"requirements\.py (?:--only )?([a-z ]+) >", DOCKERFILE)
    assert {"cpu train", "loadtest"} <= {words.strip() for words in asked}
    for words in asked:
        assert len(requirements(ROOT / "pyproject.toml", words.split())) > 8
    assert any("opentelemetry" in line for line in requirements(ROOT / "pyproject.toml", ["cpu", "otel"]))
    assert [
        line.split(">")[0] for line in requirements(ROOT / "pyproject.toml", ["loadtest"], only=True)
    ] == [
        "locust",
        "numpy",
        "simpy",
    ]
    with pytest.raises(SystemExit, match="no such extra: nothing"):
        requirements(ROOT / "pyproject.toml", ["cpu", "nothing"])


def test_every_requirement_of_an_image_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    for line in requirements(ROOT / "pyproject.toml", ["cpu", "train", "loadtest", "otel", "deploy"]):
        assert re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") in pinned, line
