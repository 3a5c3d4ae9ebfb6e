"""Values that stand in examples: by the name of a field where there is one for it, else by its type. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

DEEPEST: Final = 8
A_RUN: Final = "019cc238-2c00-7abc-8def-012345670000"
AN_ARCHIVE: Final = "backup_nas_2026-03-06_0800.tar.gz"
A_MOMENT: Final = "2026-03-06T08:00:00Z"
SAMPLES: Final[dict[str, Any]] = {
    "host": "nas",
    "hosts": ["nas"],
    "store": "main",
    "base": "2026-03-06_0700",
    "status": "ok",
    "stage": "done",
    "stage_num": 5,
    "stage_total": 5,
    "detail": "What is under way for nas is called off.",
    "message": "",
    "hint": "",
    "name": "2026-03-06_0800",
    "snapshot": "2026-03-06_0800",
    "pinned": "2026-03-06_0700",
    "trigger": "every 1 h",
    "wish": 17,
    "version": 43,
    "position": 128,
    "files": 2052,
    "members": 2311,
    "size_bytes": 46_812_345,
    "transferred_bytes": 376_320,
    "bytes_per_second": 11_200_000,
    "percent": 62,
    "eta_seconds": 18,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "run": A_RUN,
    "restore": A_RUN,
    "point": "2026-03-06_0800",
    "target": "folder",
    "folder": "/var/lib/backup-manager/restored",
    "paths": ["home/alice/letter.txt"],
    "places": ["/var/lib/backup-manager/restored/nas_2026-03-06_0800_20260306T091500Z"],
    "left": [],
    "tier": "hourly",
    "reasons": ["younger than 720 h"],
    "covered_by": [],
    "policy": "3f2a9c01d4be",
    "worker": "backupserver-1",
    "outcome": "completed",
    "recorded_us": 1_772_784_000_000_000,
    "started_us": 1_772_784_000_000_000,
    "taken_us": 1_772_784_041_000_000,
    "ended_us": 1_772_784_041_000_000,
    "trashed_us": 1_772_870_400_000_000,
    "confirmed_us": 0,
    "recorded_at": 1_772_784_041.0,
    "stream": "host-nas",
    "refused": [],
    "foreign": [],
    "findings": ["It would move 27 files."],
    "confirmed": [],
}
OF_SCHEMA: Final[dict[str, dict[str, Any]]] = {
    "ArchiveState": {"name": AN_ARCHIVE},
    "ChainState": {"findings": []},
    "GoldenState": {"name": "2026-03"},
    "HostState": {"hold_reason": "", "pinned": None, "offline_since_us": None, "clock_doubt_us": None},
}
"""Where the name of a field alone would say too little."""
KEYS: Final = {
    "snapshots": "2026-03-06_0800",
    "archives": AN_ARCHIVE,
    "golden": "2026-03",
    "trash": "snapshot/2026-03-05_0800",
    "undeleted": "snapshot/2026-03-04_0800",
}
"""The names under which things are kept; hosts, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class About:
    """What is to say about a parameter of this name, wherever it occurs."""

    description: str
    example: Any
    limits: dict[str, Any] = field(default_factory=dict)


A_MOMENT_OR_NOW: Final = {"anyOf": [{"format": "date-time", "minLength": 10}, {"maxLength": 0}]}
MOST: Final = {"maximum": 2**63 - 1}
PARAMETERS: Final = {
    "host": About("The name of a host.", "nas", {"pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"}),
    "at": About("The moment to show; now when left out or empty.", A_MOMENT, A_MOMENT_OR_NOW),
    "after": About("Only what came after this position.", 120, MOST),
    "before": About("Only what came before this position.", 128, MOST),
    "limit": About("At most so many.", 100),
    "wait_seconds": About("Wait so long for one.", 0),
    "Last-Event-ID": About("The position of the last event that was seen.", "128", {"pattern": "^[0-9]{0,18}$"}),
    "run": About("The number of a run.", A_RUN),
    "restore": About("The number of a restore.", A_RUN),
    "snapshot": About("The name of a snapshot.", "2026-03-06_0800"),
}


def sample(schema: dict[str, Any], schemas: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """A value of this schema. What the schema says itself comes first, then the name of the field, then its type."""
    given = [schema[key] for key in ("const", "example") if key in schema]
    for said in (*schema.get("examples", ()), *given, *schema.get("enum", ())):
        return said
    if name in SAMPLES and _fits(SAMPLES[name], schema):
        return SAMPLES[name]
    below = depth + 1
    for choice in (*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())):
        return sample(choice, schemas, name, below) if depth < DEEPEST else None
    if "$ref" in schema:
        return sample(schemas.get(schema["$ref"].rpartition("/")[2], {}), schemas, name, below)
    return _by_type(schema, schemas, name, below)


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    ways = (schema, *schema.get("oneOf", ()), *schema.get("anyOf", ()))
    if isinstance(value, list):
        items = [way.get("items", {}).get("type") for way in ways if way.get("type") == "array"]
        return "string" in items or (not value and bool(items))
    return {str: "string", int: "integer", float: "number"}[type(value)] in {way.get("type") for way in ways}


def _by_type(schema: dict[str, Any], schemas: dict[str, Any], name: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            return _an_object(schema, schemas, name, depth)
        case "array":
            return [sample(schema.get("items", {}), schemas, name.removesuffix("s"), depth)]
        case "string":
            return _a_text(schema)
        case "integer" | "number":
            return schema.get("default", schema.get("minimum", 0))
        case "boolean":
            return True
        case _:
            return schema.get("default")


def _an_object(schema: dict[str, Any], schemas: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
    made = {key: sample(one, schemas, key, depth) for key, one in schema.get("properties", {}).items()}
    made |= {key: value for key, value in OF_SCHEMA.get(schema.get("title", ""), {}).items() if key in made}
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and more and not made:
        made[KEYS.get(name, "nas")] = sample(more, schemas, "", depth)
    return made


def _a_text(schema: dict[str, Any]) -> str:
    formats = {"date-time": A_MOMENT, "date": "2026-03-06", "uuid": A_RUN, "uri": "http://127.0.0.1:8085/"}
    return str(formats.get(schema.get("format", ""), schema.get("default", "text")))
