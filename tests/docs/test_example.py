"""The README's example is a request and an answer of the service."""

import json
import re
from pathlib import Path

from service.bodies.rerank import RerankRequest, RerankResponse

ROOT = Path(__file__).parents[2]


def test_the_example_is_valid() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r'^    (\{"request_id".*?\})\n\n', readme, flags=re.MULTILINE | re.DOTALL)
    assert shown
    request = RerankRequest.model_validate_json((ROOT / "docs/example.json").read_bytes())
    answer = RerankResponse.model_validate_json(shown[1])
    always = {name for name, field in RerankResponse.model_fields.items() if field.is_required()}
    assert set(json.loads(shown[1])) == always
    assert [request.items[result.index].id for result in answer.results] == [r.id for r in answer.results]
    assert len(answer.results) == request.top_n
