"""The operations of the configuration API: one table that routes the requests, checks them, and describes itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from onefold import config, debugger, secret, usage
from onefold.document import Shape
from onefold.plan import Change
from onefold.roles import ADMIN, EDITOR, VIEWER
from onefold.sessions import view
from onefold.workspace import Workspace, pick

Schema = dict[str, Any]
Given = Mapping[str, Any]
# What an operation does with the parameters: returns what is sent as JSON. Raises OnefoldError.
Run = Callable[[Workspace, Given], Any]

TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object"}
LIST: Schema = {"type": "array"}
NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
INTEGER: Schema = {"type": "integer"}
SWITCH: Schema = {"type": "boolean"}
FLAG: Schema = {"type": "boolean", "default": False}
COUNT: Schema = {"type": "integer", "minimum": 0}
CURSOR: Schema = {
    "type": "string",
    "pattern": r"^[0-9]{1,18}(\.[0-9]{1,18}){2,3}$",
    "description": "the cursor of an earlier answer",
}


def thing(required: str, **also: Schema) -> Schema:
    """An object that has some texts, and other things with schemas of their own."""
    return {
        "type": "object",
        "required": [*required.split(), *also],
        "properties": {**dict.fromkeys(required.split(), TEXT), **also},
    }


def several(item: Schema, **also: Schema) -> Schema:
    listed = {"data": {"type": "array", "items": item}, **also}
    return {"type": "object", "required": list(listed), "properties": listed}


def limit(default: int, most: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}


PROFILE = thing("segment_id created_at updated_at", external_ids=LIST, traits=OBJECT)
_FOUND = several(PROFILE)
_FOUND["properties"] |= {"looked_through": COUNT, "calls": COUNT}  # of the log, for a part of an identifier
RUN = thing("run_id mapping space status started_at started_by kind")
_REPLAY = thing("run_id mapping to", sent=COUNT, already_there=COUNT, superseded=COUNT, forgotten=COUNT, to_send=COUNT)
CHANGE = thing("action kind slug", changes=LIST, notes=LIST)
PLAN = several(CHANGE, warnings={"type": "array", "items": TEXT})
SPACE, SOURCE, MODEL = thing("slug name store region"), thing("slug name type"), thing("slug name source key sql")
DESTINATION, MAPPING = thing("slug name type source endpoint"), thing("slug name model action trigger", fields=OBJECT)


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked for. `{name}` in `path` is a parameter; so are those in `query` and `body`."""

    id: str
    method: str
    path: str
    summary: str
    run: Run
    result: Schema
    query: dict[str, Schema] = field(default_factory=dict)
    body: dict[str, Schema] = field(default_factory=dict)
    needed: tuple[str, ...] = ()  # those in the body that must be given
    status: int = 200
    role: str | None = VIEWER  # who may, at least; None: anybody
    cookie: bool = False  # the answer begins or ends a session
    fails: tuple[int, ...] = ()  # besides what all can be answered with
    stream: bool = False  # who accepts text/event-stream gets the items of `data` as they come (api/debugger.py)
    follow: Run | None = None  # for who accepts Server-Sent Events: each state of it, until it is not running

    @property
    def names(self) -> list[str]:
        """The parameters in the path."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


# --- what they do -------------------------------------------------------------------------------------


def _space(space: config.Space) -> dict[str, Any]:
    sources = [{"slug": source.slug, "name": source.name} for source in space.sources]
    return {**asdict(space), "store": secret.mask(space.store), "sources": sources}


def _source(source: config.Source) -> dict[str, Any]:
    options = {name: secret.mask(said) if isinstance(said, str) else said for name, said in source.options.items()}
    return {"slug": source.slug, "name": source.name, "type": source.type, **options}


def _destination(found: config.Destination) -> dict[str, Any]:
    mappings = [mapping.slug for mapping in found.mappings]
    return {**asdict(found), "endpoint": secret.mask(found.endpoint), "mappings": mappings}


def _mapping(mapping: config.Mapping) -> dict[str, Any]:
    return {**asdict(mapping), "schedule": None if mapping.schedule is None else str(mapping.schedule)}


def _due(workspace: Workspace, given: Given, mapping: config.Mapping) -> dict[str, Any]:
    """A mapping with its last run and when it is due."""
    path = f"{given['destination']}/{mapping.slug}"
    (line,) = [line for line in workspace.timetable() if line["mapping"] == path]
    return {**_mapping(mapping), "last_run": line["last_run"], "next_due": line["next_due"]}


def _all(kind: str, view: Callable[[Any], Any]) -> Run:
    """Lists what was applied: the spaces, the sources …"""
    return lambda workspace, _: {"data": [view(item) for item in getattr(workspace.configuration(), f"{kind}s")]}


def _one(kind: str, view: Callable[[Any], Any]) -> Run:
    """Shows one of them, by its slug."""
    return lambda workspace, given: view(pick(getattr(workspace.configuration(), f"{kind}s"), given[kind], kind))


def _mappings(workspace: Workspace, given: Given) -> Any:
    return pick(workspace.configuration().destinations, given["destination"], "destination").mappings


def _path(given: Given) -> str:
    return f"{given['destination']}/{given['mapping']}"


def _test_source(workspace: Workspace, given: Given) -> Any:
    tables = workspace.test_source(given["source"])
    said = [{"name": table.name, "columns": [vars(column) for column in table.columns]} for table in tables]
    return {"source": given["source"], "tables": said}


def _preview(workspace: Workspace, given: Given) -> Any:
    columns, rows = workspace.preview_model(given["model"], given["limit"])
    return {"columns": columns, "data": rows}


def _changes(read: Callable[[Workspace], list[Change]]) -> Run:
    """`plan` or `apply`: the changes, and what the file is warned of."""

    def run(workspace: Workspace, _: Given) -> Any:
        changes = [asdict(change) for change in read(workspace)]
        return {"data": changes, "warnings": workspace.document.warnings}

    return run


def _sync(workspace: Workspace, given: Given) -> Any:
    options = {"full": given["full"], "allow_deletes": given["allow_deletes"]}
    return workspace.run(workspace.start(_path(given), **options, started_by="api"))


def _resend_run(workspace: Workspace, given: Given) -> Any:
    return workspace.run(workspace.start_resend(given["run"], given["code"], started_by="api"))


def _profiles(workspace: Workspace, given: Given) -> Any:
    if given["text"]:
        found = workspace.search(given["space"], given["text"], given["limit"], given["seconds"], parts=given["parts"])
        return {"data": found.profiles, "looked_through": found.looked, "calls": found.calls}
    return {"data": list(workspace.profiles(given["space"], accounts=given["accounts"], limit=given["limit"]))}


def _profile(workspace: Workspace, given: Given) -> Any:
    read = workspace.explain if given["why"] else workspace.profile
    return read(given["space"], given["identifier"], accounts=given["accounts"])


def _login(workspace: Workspace, given: Given) -> Any:
    return workspace.login(given["name"], given["password"], workspace.who.address)


def _setup(workspace: Workspace, given: Given) -> Any:
    return workspace.setup(given["token"], given["name"], given["password"], workspace.who.address)


def _change_user(workspace: Workspace, given: Given) -> Any:
    workspace.change_user(given["user"], role=given["role"], password=given["password"])
    return next(user for user in workspace.users() if user["name"].casefold() == given["user"].strip().casefold())


def _slug(kind: str, given: Given) -> str:
    return _path(given) if kind == "mapping" else str(given[kind])


def _edited(kind: str, path: str, shape: Shape, **types: Schema) -> tuple[Operation, Operation, Operation]:
    """To read an object of the file, to put it there, and to take it out."""
    body = {key: types.get(key, LIST if below else TEXT) for key, below in shape.items() if key != "slug"}

    def save(workspace: Workspace, given: Given) -> Any:
        found = {key: given[key] for key in body if given[key] is not None}
        return _saved(workspace.save(kind, _slug(kind, given), found, given["version"]))

    def remove(workspace: Workspace, given: Given) -> Any:
        return _saved(workspace.save(kind, _slug(kind, given), None, given["version"]))

    name, version = kind.capitalize(), {"version": TEXT}
    return (
        Operation(f"edit{name}", "GET", f"{path}/edit", f"The {kind} as the file has it, and its version",
                  lambda workspace, given: workspace.editable(kind, _slug(kind, given)),
                  thing("version", object=OBJECT)),
        Operation(f"save{name}", "PUT", path, f"Put the {kind} into the file and apply, all or nothing; `version`"
                  " is the one that was edited, empty for a new one", save, SAVED, version, body, role=EDITOR,
                  fails=(409,)),
        Operation(f"remove{name}", "DELETE", path, f"Take the {kind} out of the file and apply", remove, SAVED, version,
                  role=EDITOR, fails=(409,)),
    )  # fmt: skip


def _saved(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "changes": [asdict(change) for change in found["changes"]]}


def _done(act: Callable[[Workspace, Given], None]) -> Run:
    """Does something that has no more to tell."""

    def run(workspace: Workspace, given: Given) -> Any:
        act(workspace, given)
        return {"done": True}

    return run


def debug(workspace: Workspace, given: Given) -> Any:
    """The newest calls of a source that hold a text, and where to go on."""
    after = debugger.cursor(given["after"]) if given["after"] else None
    calls, following = workspace.debug(given["source"], after, given["limit"])
    sought = (given["text"] or "").lower()
    data = [call for call in calls if sought in json.dumps(call, ensure_ascii=False).lower()] if sought else calls
    return {"data": data, "cursor": str(following)}


def _resend(workspace: Workspace, given: Given) -> Any:
    return {"resent": workspace.resend_calls(given["source"], call=given["id"], code=given["code"])}


# --- the table ----------------------------------------------------------------------------------------

_DESTINATION = "/api/destinations/{destination}"
_MAPPING = f"{_DESTINATION}/mappings/{{mapping}}"
SESSION, USER = thing("name role kind csrf"), thing("id name role created_at")
NEW_USER = {"name": TEXT, "password": TEXT}
DONE, SAVED = thing("", done=FLAG), thing("version", changes=LIST)
_TABLES = thing("source", tables=LIST)
_TRIED = thing("", selected=FLAG, calls=LIST, effects=LIST)
_CALL = thing("received_at source status", fields=LIST)
_USED = thing("month source", **dict.fromkeys(usage.FIGURES, COUNT))
_ROWS = several(OBJECT, columns={"type": "array", "items": TEXT})

OPERATIONS: tuple[Operation, ...] = (
    Operation("setup", "POST", "/api/setup", "Make the first user by the one-time link of `onefold serve`",
              _setup, SESSION, body={"token": TEXT, **NEW_USER}, needed=("token", *NEW_USER), role=None, cookie=True),
    Operation("login", "POST", "/api/session", "Log in: the answer sets the session cookie",
              _login, SESSION, body=NEW_USER, needed=tuple(NEW_USER), role=None, cookie=True),
    Operation("showSession", "GET", "/api/session", "Who asks, and the CSRF token that changes carry",
              lambda workspace, _: view(workspace.who), SESSION),
    Operation("logout", "DELETE", "/api/session", "Log out: the session ends",
              lambda workspace, _: workspace.logout(), SESSION, cookie=True),
    Operation("changePassword", "POST", "/api/session/password", "Another password for who asks",
              _done(lambda workspace, given: workspace.change_password(given["old"], given["new"])), DONE,
              body={"old": TEXT, "new": TEXT}, needed=("old", "new")),
    Operation("listUsers", "GET", "/api/users", "The users",
              lambda workspace, _: {"data": workspace.users()}, several(USER), role=ADMIN),
    Operation("createUser", "POST", "/api/users", "Make a user",
              lambda workspace, given: workspace.create_user(given["name"], given["role"], given["password"]), USER,
              body={**NEW_USER, "role": TEXT}, needed=(*NEW_USER, "role"), status=201, role=ADMIN),
    Operation("changeUser", "PUT", "/api/users/{user}", "Give a user another role or password",
              _change_user, USER, body={"role": TEXT, "password": TEXT}, role=ADMIN),
    Operation("removeUser", "DELETE", "/api/users/{user}", "Remove a user and end their sessions",
              _done(lambda workspace, given: workspace.remove_user(given["user"])), DONE, role=ADMIN),
    Operation("listAudit", "GET", "/api/audit", "Who changed what, newest first",
              lambda workspace, given: {"data": workspace.audit(given["limit"], given["before"], given["text"] or "")},
              several(thing("at who kind address action object", lines=LIST)),
              {"limit": limit(100, 1000), "before": NUMBER, "text": TEXT}, role=ADMIN),
    Operation("listSpaces", "GET", "/api/spaces", "The Profile Spaces", _all("space", _space), several(SPACE)),
    Operation("showSpace", "GET", "/api/spaces/{space}", "One space", _one("space", _space), SPACE),
    Operation("listProfiles", "GET", "/api/spaces/{space}/profiles", "Profiles, oldest first, or those a text finds",
              _profiles, _FOUND,
              {"text": TEXT, "parts": FLAG, "seconds": limit(1, 60), "accounts": FLAG, "limit": limit(20, 1000)}),
    Operation("showProfile", "GET", "/api/spaces/{space}/profiles/{identifier}", "The profile that owns TYPE:VALUE",
              _profile, PROFILE, {"accounts": FLAG, "why": FLAG}),
    Operation("listSources", "GET", "/api/sources", "The warehouse sources", _all("source", _source), several(SOURCE)),
    Operation("showSource", "GET", "/api/sources/{source}", "One source", _one("source", _source), SOURCE),
    Operation("testSource", "POST", "/api/sources/{source}/test", "Connect to a source in the file, list its tables",
              _test_source, _TABLES, fails=(502,)),
    Operation("listModels", "GET", "/api/models", "The models", _all("model", vars), several(MODEL)),
    Operation("showModel", "GET", "/api/models/{model}", "One model", _one("model", vars), MODEL),
    Operation("previewModel", "GET", "/api/models/{model}/preview", "The first rows of a model in the file",
              _preview, _ROWS, {"limit": limit(10, 1000)}, fails=(502,)),
    Operation("listDestinations", "GET", "/api/destinations", "The destinations",
              _all("destination", _destination), several(DESTINATION)),
    Operation("showDestination", "GET", _DESTINATION, "One destination",
              _one("destination", _destination), DESTINATION),
    Operation("listMappings", "GET", f"{_DESTINATION}/mappings", "The mappings of a destination",
              lambda workspace, given: {"data": [_due(workspace, given, item) for item in _mappings(workspace, given)]},
              several(MAPPING)),
    Operation("showMapping", "GET", _MAPPING, "One mapping",
              lambda workspace, given: _due(
                  workspace, given, pick(_mappings(workspace, given), given["mapping"], "mapping")
              ),
              MAPPING),
    Operation("testMapping", "POST", f"{_MAPPING}/test",
              "A row or live call, the call made of it, and what that would do; changes nothing",
              lambda workspace, given: workspace.test_mapping(_path(given), given["key"], given["event"]), _TRIED,
              body={"key": TEXT, "event": OBJECT}, fails=(409, 502)),
    Operation("syncMapping", "POST", f"{_MAPPING}/sync", "Start a sync; Location has the address of its run",
              _sync, RUN, body={"full": FLAG, "allow_deletes": FLAG}, status=202, role=EDITOR, fails=(409,)),
    Operation("resetMapping", "POST", f"{_MAPPING}/reset",
              "Forget what a mapping has seen; without `confirm` only say how many keys that are",
              lambda workspace, given: workspace.reset(_path(given), dry_run=not given["confirm"]),
              thing("mapping", known={"type": "integer"}, done=FLAG), body={"confirm": FLAG},
              role=EDITOR, fails=(409,)),
    Operation("plan", "GET", "/api/plan", "What applying the file would change", _changes(Workspace.plan), PLAN),
    Operation("apply", "POST", "/api/apply", "Make the file the configuration", _changes(Workspace.apply), PLAN,
              role=EDITOR),
    Operation("export", "GET", "/api/export", "What is applied, as a workspace file",
              lambda workspace, _: {"onefold.yaml": workspace.export()}, thing("onefold.yaml")),
    Operation("listAlerts", "GET", "/api/alerts", "The alerts, what fires now, and their newest messages",
              lambda workspace, _: {"data": workspace.alerts()},
              several(thing("slug name", fires=LIST, messages=LIST))),
    Operation("testAlert", "POST", "/api/alerts/{alert}/test", "Send a test message; what the other sides answered",
              lambda workspace, given: {"data": workspace.test_alert(given["alert"])},
              several(thing("alert channel answer", sent={"type": "boolean"})), role=EDITOR),
    Operation("showStorage", "GET", "/api/storage", "What takes how much: rows and bytes",
              lambda workspace, _: {"data": workspace.storage()}, several(thing("where what"))),
    Operation("listRuns", "GET", "/api/runs", "The newest runs first",
              lambda workspace, given: {"data": workspace.runs(given["limit"])}, several(RUN),
              {"limit": limit(50, 1000)}),
    Operation("showRun", "GET", "/api/runs/{run}", "One run, with its rejected rows counted by code",
              lambda workspace, given: workspace.run(given["run"]), RUN,
              follow=lambda workspace, given: workspace.follow(given["run"])),
    Operation("cancelRun", "POST", "/api/runs/{run}/cancel", "Stop a run; what is committed stays",
              lambda workspace, given: workspace.cancel(given["run"]), RUN, fails=(409,), role=EDITOR),
    Operation("resendRun", "POST", "/api/runs/{run}/resend",
              "Try the rejected rows of a run again, as they are now; Location has the address of the new run",
              _resend_run, RUN, body={"code": TEXT}, status=202, role=EDITOR, fails=(409,)),
    Operation("showReplay", "GET", "/api/runs/{run}/replay", "What replaying a run would do, in calls",
              lambda workspace, given: workspace.replayable(given["run"]), _REPLAY, fails=(409,)),
    Operation("replayRun", "POST", "/api/runs/{run}/replay",
              "Send again what a run sent, under the same message ids; Location has the address of the new run",
              lambda workspace, given: workspace.run(workspace.start_replay(given["run"], started_by="api")), RUN,
              status=202, role=EDITOR, fails=(409,)),
    Operation("listRejected", "GET", "/api/runs/{run}/rejected", "The rejected rows of a run",
              lambda workspace, given: {"data": list(workspace.rejected(given["run"], given["limit"]))},
              several(thing("code message", fields=LIST)), {"limit": limit(100, 10_000)}),
    Operation("debugSource", "GET", "/api/debugger/{source}",
              "The last calls of a profile source, oldest first; live where text/event-stream is accepted", debug,
              several(_CALL, cursor=CURSOR),
              {"text": TEXT, "after": CURSOR, "limit": limit(debugger.LIMIT, debugger.LIMIT)}, stream=True),
    Operation("resendCalls", "POST", "/api/debugger/{source}/resend",
              "Apply rejected live calls again: one by its id, those with a code, or all", _resend,
              thing("", resent=COUNT), body={"id": TEXT, "code": TEXT}, role=EDITOR),
    Operation("usage", "GET", "/api/usage", "API calls and tracked users, by month and profile source",
              lambda workspace, _: {"data": workspace.usage()}, several(_USED)),
    *_edited("space", "/api/spaces/{space}", config.SHAPE["spaces"], limits=OBJECT, blocked_values=LIST),
    *_edited("source", "/api/sources/{source}", config.SHAPE["sources"], statement_timeout=INTEGER),
    *_edited("model", "/api/models/{model}", config.SHAPE["models"]),
    *_edited("destination", _DESTINATION, config.SHAPE["destinations"], settings=OBJECT, enabled=SWITCH),
    *_edited("alert", "/api/alerts/{alert}", config.SHAPE["alerts"], when=OBJECT, email=OBJECT, webhook=OBJECT,
             slack=OBJECT),
    *_edited("mapping", _MAPPING, config.SHAPE["destinations"]["mappings"], schedule=OBJECT, fields=OBJECT,
             enabled=SWITCH),
)  # fmt: skip


# --- the description ----------------------------------------------------------------------------------

BODIES = ("POST", "PUT")
ERROR = thing("", error=thing("code message"))
# What any operation can be answered with besides its result.
FAILS = {
    400: "a parameter is wrong",
    401: "who asks has no session and sent no admin token, or one that is not good",
    403: "it takes another role, or comes from a page of somewhere else",
    404: "it does not exist, or nothing is applied yet",
    422: "the workspace file, or what was to be written into it, is wrong",
    429: "too many requests, or too many wrong passwords",
    503: "a store cannot be read or written now",
}
ALSO = {
    409: "it is disabled, over, of another kind, or is not as it was when it was read",
    413: "the body is too long",
    415: "the body is not JSON",
    502: "the warehouse cannot be read",
}


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the table."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Onefold configuration API", "version": version},
        "paths": paths,
        "security": [{"admin": []}, {"session": [], "csrf": []}],
        "components": {
            "securitySchemes": {
                "admin": {"type": "http", "scheme": "bearer"},
                # With the port of the address where it has one, such as onefold_session_8000.
                "session": {"type": "apiKey", "in": "cookie", "name": "onefold_session"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
            "schemas": {"Error": ERROR},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    fails = {**FAILS, **{status: ALSO[status] for status in operation.fails}}
    if operation.method in BODIES:
        fails |= {status: ALSO[status] for status in (413, 415)}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    said: dict[str, Any] = {"description": "done", "content": {"application/json": {"schema": operation.result}}}
    if operation.follow is not None:
        said["content"]["text/event-stream"] = {"schema": TEXT}
    if operation.status == 202:
        said["headers"] = {"Location": {"schema": TEXT, "required": True}}
    if operation.stream:
        stream = "an event `call` for each item of `data`; its id is the cursor, which Last-Event-ID continues behind"
        said["content"]["text/event-stream"] = {"schema": {"type": "string", "description": stream}}
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": TEXT} for name in operation.names),
            *({"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()),
        ],
        "responses": {
            str(operation.status): said,
            **{str(status): {"description": why, "content": error} for status, why in sorted(fails.items())},
        },
    }
    if operation.role is None:
        described["security"] = []
    else:
        described["description"] = f"Takes the role {operation.role}."
    if operation.method in BODIES:
        schema = {"type": "object", "properties": operation.body, "additionalProperties": False}
        if operation.needed:
            schema["required"] = list(operation.needed)
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": bool(operation.needed), "content": content}
    return described
