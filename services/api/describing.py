"""Completes the description of the API (OpenAPI): subjects, errors and examples, the same way for every route. Pure.

The framework knows paths, parameters and types. What it cannot know is added here, by rule and by the names of
fields and parameters, so that a new route is described without a word; what a route says itself is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from services.api.samples import PARAMETERS, About, sample

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
    "410": ("Gone", "Gone", "The snapshot 2026-03-06_0800 of nas was removed.", "/hosts/nas lists what is kept."),
    "413": ("TooLarge", "Content Too Large", "The request is larger than 64 KB.", ""),
    "415": ("UnknownKind", "Unsupported Media Type", "The body has to be application/json, not 'text/plain'.", ""),
    "429": ("TooMany", "Too Many Requests", "Too many requests.", "Wait a minute."),
    "503": ("Away", "Service Unavailable", "The event log cannot be reached.", "Is Postgres running?"),
}
OF_FILES: Final = frozenset({"files", "content", "versions", "diff", "search"})
"""The last words of paths that lead into restore points: those may be in use, gone, or too much."""

ABOUT_SUBJECTS: Final = {
    "access": "Users, roles, sessions and tokens.",
    "events": "The event log: page by page, and as it grows.",
    "files": "What is in restore points: folders, files, versions, differences, names.",
    "hosts": "Hosts, their restore points, and what is planned for them.",
    "now": "Where everything is, and what runs next.",
    "restores": "Restores: asking for one, how it goes, and calling it off.",
    "runs": "Runs of any job, and how they ended.",
    "wishes": "A run now, a dry run, and calling one off. They go over the bus.",
}
SUBJECT_OF: Final = {
    **dict.fromkeys(("restores",), "restores"),
    **dict.fromkeys(("files", "content", "versions", "diff", "search"), "files"),
    **dict.fromkeys(("users", "tokens", "me", "sessions"), "access"),
    **dict.fromkeys(("runs",), "runs"),
    **dict.fromkeys(("trigger", "cancel"), "wishes"),
    **dict.fromkeys(("status", "schedule", "healthz"), "now"),
    **dict.fromkeys(("events", "log"), "events"),
    **dict.fromkeys(("hosts",), "hosts"),
}
"""By a part of the path; the first of these that occurs in it."""


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
    parts = path.strip("/").removeprefix("api/").split("/")
    subject = next((subject for part, subject in SUBJECT_OF.items() if part in parts), parts[0])
    return subject, ABOUT_SUBJECTS.get(subject, f"{subject.capitalize()}.")


def _error(code: str, title: str, detail: str, hint: str) -> dict[str, Any]:
    example = {"title": title, "status": int(code), "detail": detail} | ({"hint": hint} if hint else {})
    content = {"schema": PROBLEM, "example": example}
    return {"description": detail, "content": {"application/problem+json": content}}


def _complete_parameters(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"] = _without_null(parameter.get("schema", {}))
        name = parameter["name"]
        known = PARAMETERS.get(name) or About(f"The {name.replace('_', ' ')}.", sample(schema, schemas, name))
        parameter.setdefault("description", known.description)
        schema |= {key: value for key, value in known.limits.items() if key not in schema}
        parameter.setdefault("example", known.example)


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
    elif path.rpartition("/")[2] in OF_FILES:
        possible += ["409", "410", "413"]
    return sorted(possible)
