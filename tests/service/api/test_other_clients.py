"""The public clients of the APIs spoken here, where they are installed: `make clients`, for they need
other versions of some packages than `make test` has.

What they rely on is tested without them, too: test_documents.py, test_open_inference.py.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import httpx
import pytest

from launch.service import ServiceProcess

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # sockets they leave open
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

DOCUMENTS = [f"i{n}" for n in range(12)]


def with_module(name: str) -> pytest.MarkDecorator:
    """Skips a test, and what it would start, where the module is not installed."""
    try:
        import_module(name)
        missing = False
    except ImportError:
        missing = True
    return pytest.mark.skipif(missing, reason=f"needs {name}: make clients")


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(bundle) as service:
        yield service


@with_module("cohere")
def test_cohere(service: ServiceProcess) -> None:
    cohere = import_module("cohere")
    http = httpx.Client()
    client = cohere.ClientV2(api_key="key", base_url=service.url, httpx_client=http)
    more = {"additional_body_parameters": {"user_id": "u", "deadline_ms": 10_000}}
    asked = {"model": "eglr", "query": "x", "documents": DOCUMENTS}
    answer = client.rerank(**asked, top_n=3, max_tokens_per_doc=9, request_options=more)
    assert [one.relevance_score for one in answer.results] == [12 / 12, 11 / 12, 10 / 12]
    assert (answer.meta.api_version.version, answer.meta.context) == ("2", "miss")
    assert len(answer.meta.warnings) == 2
    assert sorted(one.index for one in client.rerank(**asked).results) == list(range(12))
    with pytest.raises(cohere.NotFoundError) as unknown:
        client.rerank(**{**asked, "model": "rerank-v3.5"})
    assert "no model 'rerank-v3.5'" in unknown.value.body["message"]
    with pytest.raises(cohere.UnprocessableEntityError) as wrong:
        client.rerank(**asked, top_n=0)
    assert wrong.value.body["fields"][0]["field"] == "top_n"
    http.close()


@with_module("llama_index.postprocessor.jinaai_rerank")
def test_jina(service: ServiceProcess) -> None:
    jina = import_module("llama_index.postprocessor.jinaai_rerank")
    schema = import_module("llama_index.core.schema")
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=item)) for item in DOCUMENTS]
    client = jina.JinaRerank(top_n=3, model="eglr", base_url=f"{service.url}/v2", api_key="key")
    ranked = client.postprocess_nodes(nodes, query_str="x")
    assert [one.score for one in ranked] == [12 / 12, 11 / 12, 10 / 12]
    client.model = "unknown"
    with pytest.raises(RuntimeError, match="no model 'unknown'"):
        client.postprocess_nodes(nodes, query_str="x")
    client._session.close()


@with_module("tritonclient.http")
def test_triton(service: ServiceProcess) -> None:
    triton = import_module("tritonclient.http")
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("eglr")
    assert client.is_model_ready("eglr", "1")
    assert not client.is_model_ready("unknown")
    assert client.get_server_metadata()["extensions"] == []
    assert client.get_model_metadata("eglr", "1")["versions"] == ["1"]
    with pytest.raises(Exception, match="no model 'unknown'"):
        client.get_model_metadata("unknown")
    client.close()
