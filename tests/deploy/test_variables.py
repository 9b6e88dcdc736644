"""Every variable that a file of the deployment or its page names is a setting of the service."""

import re

from dockerfile import ROOT

from service.settings import ENV_PREFIX, Settings

SETTINGS = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
ON_THE_HOST = {"RERANK_BUNDLE_DIR"}
"""Where the bundle is mounted from; the service never sees it."""


def test_variables_are_settings() -> None:
    paths = ("Dockerfile", "docker-compose.yml", "docs/deployment.md")
    files = [*(ROOT / path for path in paths), *(ROOT / "deploy/kubernetes").rglob("*.yaml")]
    named = set(re.findall(r"\bRERANK_[A-Z_]*[A-Z]\b", "".join(file.read_text() for file in files)))
    assert {"RERANK_REDIS_URL"} < named <= SETTINGS | ON_THE_HOST
