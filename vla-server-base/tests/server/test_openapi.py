"""What the pages at /docs say."""

import re

import httpx
import pytest

from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.predict_reply import PredictReply


@pytest.fixture
def schema(client) -> dict:
    return client.get("/openapi.json").json()


def referenced(node) -> set[str]:
    """All that the document refers to within itself."""
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(referenced, node.values()))
    return set().union(*map(referenced, node)) if isinstance(node, list) else set()


def test_every_reference_leads_somewhere(schema):
    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    assert referenced(schema) <= known


def test_the_body_of_predict_is_described_field_by_field(schema):
    fields = schema["components"]["schemas"]["PredictRequest"]["properties"]
    assert set(fields) == set(PredictRequest.model_fields)
    assert all(field.get("description") for field in fields.values())


def test_every_route_tells_what_it_answers_and_how_it_fails(schema):
    assert set(schema["paths"]) == {
        "/predict",
        "/execute",
        "/episodes",
        "/episodes/{episode_id}",
        "/episodes/{episode_id}/events",
        "/scenes/geometry",
        "/sessions",
        "/sessions/{session_id}",
        "/sessions/{session_id}/events",
        "/assets/{sha256}",
        "/health",
        "/live",
        "/info",
        "/scenes",
        "/scenes/{robot}/{scene}",
        "/load",
        "/metrics",
        "/login",
        "/logout",
        "/models",
        "/models/{model_id}",
        "/models/{model_id}/serve",
        "/tasks",
        "/tasks/{name}/trials/{seed}",
        "/act",
        "/query",
        "/reset",
        "/healthz",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{name}",
        "/v2/models/{name}/ready",
    }
    for operations in schema["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            answer = next(answers[status] for status in ("200", "201", "202") if status in answers)
            assert all(content["schema"] for content in answer.get("content", {}).values())
            failure = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert failure == {"$ref": "#/components/schemas/ErrorReply"}
            assert operation["summary"]
    predicted = schema["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    assert predicted["schema"] == {"$ref": "#/components/schemas/PredictReply"}


@pytest.mark.parametrize("name", ["scene", "image"])
def test_the_examples_run(client: httpx.Client, schema, name):
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    response = client.post("/predict", json=body["examples"][name]["value"])
    assert response.status_code == 200, response.text
    PredictReply.model_validate_json(response.content)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_need_nothing_from_elsewhere(client, page):
    text = client.get(page).text
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    assert len(assets) >= 2
    assert re.findall(r"https?://", text.replace("https://fastapi.tiangolo.com", "")) == []
    for asset in assets:
        assert client.get(asset).status_code == 200
