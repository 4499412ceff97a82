"""The interface as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext import __version__

_ERRORS = {
    "400": "What is wrong with the request.",
    "401": "A token is needed, or another one.",
    "404": "There is no such model.",
    "408": "The body came too slowly.",
    "413": "The body or an image is too large.",
    "415": "The body is of another type.",
    "422": "An image cannot be read.",
    "503": "The server is busy: try again after `Retry-After` seconds.",
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_MASK = {
    "type": "object",
    "description": "COCO's run-length code of the image's size.",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "counts": {"type": "string"},
    },
    "required": ["size", "counts"],
}
_LABELLED: Mapping[str, Any] = {"label": {"type": "string"}}
_SCORED: Mapping[str, Any] = {**_LABELLED, "score": {"type": "number", "minimum": 0, "maximum": 1}}
_SIZE: Mapping[str, Any] = {"width": {"type": "integer"}, "height": {"type": "integer"}}


def openapi_document(models: Sequence[str], *, needs_token: bool) -> dict[str, Any]:
    """The document, of a server with these models.

    Args:
        models: their names.
        needs_token: whether requests show a token.
    """
    model = {"type": "string", "enum": list(models), "description": "Needed where there are several."}
    top_k = {"type": "integer", "minimum": 1, "maximum": 999_999, "description": "Classifiers: labels an image."}
    threshold = {"type": "number", "minimum": 0, "maximum": 1, "description": "Detectors: least score."}
    label = {"type": "string", "minLength": 1, "maxLength": 1000, "description": "Class; without: the model's answer."}
    predicting = {"model": model, "top_k": top_k, "threshold": threshold}
    paths: dict[str, Any] = {
        "/v1/predict": _asking("Answers about images", predicting, _result("answers", _answer())),
        "/v1/embed": _asking("Embeddings of images", {"model": model}, _result("embeddings", _NUMBERS)),
        "/v1/explain": _asking(
            "Class activation of an image", {"model": model, "label": label}, _result("explanations", _explanation())
        ),
        "/v1/models": _reading("The models", _object({"models": {"type": "array", "items": _model()}})),
        "/v1/models/{name}": _reading("A model, with its classes", _model(details=True), name=model),
        "/v1/models/{name}/card": _reading("A model's card", None, name=model),
        "/health": _reading("The server runs", _object({"status": {"type": "string"}}), is_open=True),
        "/ready": _reading(
            "A worker is ready",
            _object({"status": {"type": "string"}, "workers": {"type": "integer"}}),
            is_open=True,
            busy=True,
        ),
        "/metrics": _reading("Metrics for Prometheus", None),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "convnext serve", "version": __version__, "license": {"name": "MIT"}},
        "paths": paths,
        "components": {"schemas": {"Error": _object({"error": {"type": "string"}})}},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _object(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _result(name: str, item: dict[str, Any]) -> dict[str, Any]:
    head = {"model": {"type": "string"}, "milliseconds": {"type": "number"}}
    return _object({**head, name: {"type": "array", "items": item, "minItems": 1}})


def _answer() -> dict[str, Any]:
    listed = {
        "labels": _object(_SCORED),
        "objects": _object({**_SCORED, "box": {**_NUMBERS, "minItems": 4, "maxItems": 4}, "mask": _MASK}, "mask"),
        "segments": _object({**_LABELLED, "class": {"type": "integer"}, "share": {"type": "number"}, "mask": _MASK}),
    }
    arrays = {name: {"type": "array", "items": item} for name, item in listed.items()}
    depth = {name: {"type": "number"} for name in ("least", "median", "most")}
    depths = {"type": "string", "description": "float32 [height, width], little-endian, in base64."}
    return {
        "description": "Of a classifier, a detector, a segmenter, or a depth estimator.",
        "anyOf": [
            _object({"labels": arrays["labels"]}),
            _object({**_SIZE, "objects": arrays["objects"]}),
            _object({**_SIZE, "segments": arrays["segments"]}),
            _object({**_SIZE, **depth, "depths": depths}),
        ],
    }


def _explanation() -> dict[str, Any]:
    return _object({**_SCORED, "picture": {"type": "string", "description": "PNG in base64."}})


def _model(*, details: bool = False) -> dict[str, Any]:
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    maybe = {"type": ["string", "null"]}
    properties: dict[str, Any] = {
        **dict.fromkeys(("name", "task", "engine", "device"), text),
        **{"answers": texts, "options": texts, "classes": {"type": "integer"}},
        **{"licence": maybe, "restriction": maybe, "card": {"type": "boolean"}},
    }
    return _object({**properties, "labels": texts, "thresholds": _NUMBERS} if details else properties)


def _asking(summary: str, options: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """A path to which images are sent."""
    image, encoded = {"type": "string", "format": "binary"}, {"type": "string", "contentEncoding": "base64"}
    several = {"type": "array", "items": encoded, "minItems": 1}
    form = {"type": "array", "items": image, "minItems": 1}
    by_json: dict[str, Any] = {
        "type": "object",
        "properties": {"image": encoded, "images": several, **options},
        "anyOf": [{"required": ["image"]}, {"required": ["images"]}],
        "additionalProperties": False,
    }
    by_form = _object({"image": form, **options}, *options)
    by_form["additionalProperties"] = False
    content = {
        "image/*": {"schema": image},
        "application/octet-stream": {"schema": image},
        "multipart/form-data": {"schema": by_form},
        "application/json": {"schema": by_json},
    }
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in options.items()]
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": True, "content": content},
            "responses": {"200": _json("The answer, with an item for each image.", result), **_failures(*_ERRORS)},
        }
    }


def _reading(
    summary: str,
    schema: dict[str, Any] | None,
    *,
    name: dict[str, Any] | None = None,
    is_open: bool = False,
    busy: bool = False,
) -> dict[str, Any]:
    """A path that is read."""
    found = _json(summary, schema) if schema else {"description": summary, "content": {"text/plain": {}}}
    failures = ["404"] * (name is not None) + ["401"] * (not is_open) + ["503"] * busy
    path: dict[str, Any] = {"summary": summary, "responses": {"200": found, **_failures(*failures)}}
    if name is not None:
        path["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": name}]
    return {"get": {**path, "security": []} if is_open else path}


def _failures(*statuses: str) -> dict[str, Any]:
    return {status: _json(_ERRORS[status], {"$ref": "#/components/schemas/Error"}) for status in statuses}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
