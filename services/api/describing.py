"""Completes the description of the API (OpenAPI): subjects, errors and examples, the same way for every route. Pure.

The framework knows paths, parameters and types. What it cannot know is added here, by rule and by the names of
fields and parameters, so that a new route is described without a word; what a route says itself is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from services.api.samples import PARAMETERS, sample

METHODS: Final = ("get", "put", "post", "delete", "patch")
PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457): `detail` is a sentence, `hint` the next step.",
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
    },
}
ERRORS: Final[dict[str, tuple[str, str, str, str]]] = {
    "400": ("Refused", "Bad Request", "Something in the request is not what it should be.", ""),
    "401": ("NotLoggedIn", "Unauthorized", "Nobody is logged in.", "Log in, or send a token."),
    "403": ("NotAllowed", "Forbidden", "This needs the role of an operator.", "Ask an admin."),
    "404": ("NotThere", "Not Found", "There is no host 'nass'.", "GET /api/hosts lists them."),
    "409": ("AlreadyRunning", "Conflict", "The snapshot of nas is running already.", "Wait, or cancel it."),
    "413": ("TooLarge", "Content Too Large", "The request is larger than 64 KB.", ""),
    "415": ("UnknownKind", "Unsupported Media Type", "The body has to be application/json, not 'text/plain'.", ""),
    "429": ("TooMany", "Too Many Requests", "Too many requests.", "Wait a minute."),
    "503": ("Away", "Service Unavailable", "The event log cannot be reached.", "Is Postgres running?"),
}
SUBJECTS: Final = {
    "status": ("now", "Where everything is, and what runs next."),
    "schedule": ("now", "Where everything is, and what runs next."),
    "trigger": ("wishes", "A run now, a dry run, and calling one off. They go over the bus."),
    "cancel": ("wishes", "A run now, a dry run, and calling one off. They go over the bus."),
    "hosts": ("hosts", "Hosts, their restore points, and what is planned for them."),
    "events": ("events", "The event log: page by page, and as it grows."),
}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with subjects, errors and examples. It is changed in place."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    components.setdefault("responses", {}).update({name: _error(code, *said) for code, (name, *said) in ERRORS.items()})
    for path, method, operation in _operations(document):
        operation.setdefault("tags", [_subject(path)[0]])
        _complete_parameters(operation, schemas)
        _complete_body(operation, schemas)
        _complete_answers(path, method, operation, schemas)
    for schema in schemas.values():
        schema.setdefault("examples", [sample(schema, schemas)])
    tags = {_subject(path) for path, _, _ in _operations(document)}
    said = {tag["name"] for tag in document.setdefault("tags", [])}
    document["tags"] += [{"name": name, "description": about} for name, about in sorted(tags) if name not in said]
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document.get("paths", {}).items():
        yield from ((path, method, item[method]) for method in METHODS if method in item)


def _subject(path: str) -> tuple[str, str]:
    first = path.removeprefix("/api/").partition("/")[0]
    return SUBJECTS.get(first, (first, f"{first.capitalize()}."))


def _error(code: str, title: str, detail: str, hint: str) -> dict[str, Any]:
    example = {"title": title, "status": int(code), "detail": detail} | ({"hint": hint} if hint else {})
    content = {"schema": PROBLEM, "example": example}
    return {"description": detail, "content": {"application/problem+json": content}}


def _complete_parameters(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"] = _without_null(parameter.get("schema", {}))
        known = PARAMETERS.get(parameter["name"])
        if known is not None:
            parameter.setdefault("description", known.description)
            schema |= {key: value for key, value in known.limits.items() if key not in schema}
            parameter.setdefault("example", known.example)
        parameter.setdefault("example", sample(schema, schemas, parameter["name"]))


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out, never null."""
    either: list[dict[str, Any]] = [one for one in schema.get("oneOf", ()) if one != {"type": "null"}]
    if len(either) != 1:
        return schema
    return either[0] | {key: value for key, value in schema.items() if key not in {"oneOf", "default"}}


def _complete_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    body = operation.get("requestBody", {})
    for content in body.get("content", {}).values():
        schema = content.get("schema", {})
        if {"type": "null"} in schema.get("oneOf", ()):
            body["required"] = False
        if not content.get("examples"):
            content.setdefault("example", sample(schema, schemas))


def _complete_answers(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    answers = operation.setdefault("responses", {})
    for code in _possible(path, method, operation):
        said = answers.get(code, {}).get("content", {})
        if "application/problem+json" not in said:  # the framework's own form of an error is never sent
            answers[code] = {"$ref": f"#/components/responses/{ERRORS[code][0]}"}
    for code, answer in answers.items():
        if "text/event-stream" in answer.get("content", {}):
            answer["content"]["text/event-stream"] = {"schema": {"type": "string"}, "example": "id: 128\nevent: log\n"}
        content = answer.get("content", {}).get("application/json")
        if code.startswith("2") and content and not content.get("examples"):
            content.setdefault("example", sample(content.get("schema", {}), schemas))


def _possible(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    possible = ["400", "401", "403", "429", "503"]
    asked = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "{" in path or "requestBody" in operation or "host" in asked:
        possible.append("404")
    if method != "get":
        possible += ["409", "413", "415"]
    return sorted(possible)
