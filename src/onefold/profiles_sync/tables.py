"""The tables (reference, section 8): what each has in its columns, and the rows of it, in the kernel's SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from onefold.profiles_sync.columns import KIND, MORE, Column, Family
from onefold.values import literal, quote

TRAITS, ACCOUNT_TRAITS = "traits", "account_traits"  # families; that of an event is the name of its table


@dataclass(frozen=True)
class Table:
    """A table: its own columns with their types, and the query of its rows; then come the columns of its family.

    The rows of a query over `calls`, `born` and `moves` are never changed. A profile table is over `told`,
    `identified`, `profiled` and `merged`; its rows are those of a profile, by canonical_segment_id.
    """

    columns: Mapping[str, str]
    rows: str
    family: str | None = None

    def query(self, family: Family | None) -> str:
        """The rows, in the order of `shape`; `doc` holds the JSON that the family's columns are made of."""
        wide, inner = ("", "")
        if family is not None and family.names:
            inner = f", {_opened(family)}"
            wide = "".join(f", {expression} as {quote(column)}" for column, expression in _wide(family).items())
        own = ", ".join(map(quote, self.columns))
        return f"select {own}{wide} from (select *{inner} from ({self.rows}))"

    def shape(self, family: Family | None) -> dict[str, str]:
        """All columns with their types."""
        return {**self.columns, **(family.columns() if family else {})}


def _opened(family: Family) -> str:
    """The document taken apart: `w` by the names that can be fields of one struct, `m` where others are wanted."""
    fields = ", ".join(f"{_string(name)}: {_string(_STRUCT[column.type])}" for name, column in _fields(family).items())
    found = f"from_json(doc, {literal('{' + fields + '}')}) as w"
    return found + (", doc::json::map(varchar, json) as m" if len(_fields(family)) < len(family.names) else "")


def _wide(family: Family) -> dict[str, str]:
    fields = _fields(family)
    found = {}
    for name, column in family.names.items():
        if name in fields:
            found[column.column] = f"w.{quote(name)}"
        elif column.column:
            found[column.column] = f"cast(m[{literal(name)}]->>'$' as {_STRUCT[column.type]})"
    rest = [literal(name) for name, column in family.names.items() if not column.column]
    if rest:
        kept = f"map_from_entries(list_filter(map_entries(m), lambda e: e.key in ({', '.join(rest)})))"
        found[MORE] = f"case when m is not null then nullif(to_json({kept})::varchar, '{{}}') end"
    return found


def _fields(family: Family) -> dict[str, Column]:
    """The names with columns that are no other's, whatever their case, and not empty: fields of a struct."""
    found: dict[str, Column] = {}
    seen: set[str] = {""}
    for name, column in family.names.items():
        if column.column and name.lower() not in seen:
            seen.add(name.lower())
            found[name] = column
    return found


def _string(text: str) -> str:
    from onefold import canonical

    return canonical.encode(text)


_STRUCT = {"text": "VARCHAR", "bigint": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN"}


def _columns(words: str) -> dict[str, str]:
    """Columns by their names; `name:type` where it is not text."""
    return {name: kind or "text" for name, _, kind in (word.partition(":") for word in words.split())}


_TIMES = "seq:bigint timestamp:timestamp received_at:timestamp uuid_ts:timestamp"
_ENVELOPE = "message_id segment_id account_segment_id event_source_id user_id anonymous_id group_id"


def _event(where: str, more: str, said: str, doc: str, family: str | None) -> Table:
    columns = _columns(f"{_ENVELOPE} {more} context {_TIMES}")
    rows = f"""
        select * exclude (event), source as event_source_id,
            said."userId" as user_id, said."anonymousId" as anonymous_id, said."groupId" as group_id,
            said.context::varchar as context, getvariable('uuid_ts') as uuid_ts{said}, {doc} as doc
        from calls where seq > getvariable('since') and {where}
    """
    return Table(columns, rows, family)


_PROPERTIES = "case when json_type(said.properties) = 'OBJECT' then said.properties::varchar end"


def event(name: str, table: str) -> Table:
    """The table of one track event."""
    more = ", event as event_text"
    return _event(f"type = 'track' and event = {literal(name)}", "event_text", more, _PROPERTIES, table)


def _updates(owner: str, where: str, family: str) -> Table:
    # Names are taken out only of what may hold a null.
    rows = f"""
        select {owner} as segment_id, message_id, seq, timestamp, received_at, getvariable('uuid_ts') as uuid_ts,
            case when contains(traits, ':null') then nullif(to_json(list_transform(
                list_filter(map_entries(traits::json::map(varchar, json)),
                    lambda e: coalesce(e.value::varchar, 'null') = 'null'), lambda e: e.key))::varchar, '[]')
            end as __unset, traits as doc
        from calls where seq > getvariable('since') and traits is not null and {owner} is not null and {where}
    """
    return Table(_columns(f"segment_id message_id __unset {_TIMES}"), rows, family)


_MAPPING = _columns(
    f"id external_id_type external_id_value external_id_hash segment_id {_TIMES} triggering_event_id"
    " triggering_event_type triggering_event_name triggering_event_source_id triggering_event_source_name"
    " triggering_event_source_slug __operation"
)
_FILED = """
    select f.seq || '-' || f.owner || f.at as id, k.name as external_id_type, f.filed[2] as external_id_value,
        sha256(f.filed[2]) as external_id_hash, f.filed_under as segment_id, f.seq, f.timestamp, f.received_at,
        getvariable('uuid_ts') as uuid_ts, f.message_id as triggering_event_id, f.type as triggering_event_type,
        f.event as triggering_event_name, f.source as triggering_event_source_id,
        f.source_name as triggering_event_source_name, f.source as triggering_event_source_slug,
        'CREATED' as __operation
    from (
        select *, 'u' as owner, segment_id as filed_under, unnest(user_filed) as filed,
            generate_subscripts(user_filed, 1) as at
        from calls where seq > getvariable('since')
        union all
        select *, 'a', account_segment_id, unnest(account_filed), generate_subscripts(account_filed, 1)
        from calls where seq > getvariable('since')
    ) f join kinds k on k.type = f.filed[1]::bigint
"""
_GRAPH = """
    select *, getvariable('uuid_ts') as uuid_ts from (
        select segment_id, segment_id as canonical_segment_id, seq, type as triggering_event_type,
            message_id as triggering_event_id, timestamp, received_at
        from born
        union all
        select s.segment_id, p.segment_id, m.seq, c.type, c.message_id, c.timestamp, c.received_at
        from moves m join ids s on s.segment = m.segment join ids p on p.segment = m.profile
            join calls c on c.seq = m.seq
    ) where seq > getvariable('since')
"""
# The table of a track event is in `event`, its name in `event_text`.
_TRACK = ", event as event_text, (select any_value(t.event) from event_tables t where t.name = calls.event) as event"
_ALIAS, _NAME = ', said."previousId" as previous_id', ", said.name as name, said.category as category"
RAW: dict[str, Table] = {
    "id_graph_updates": Table(
        _columns(f"segment_id canonical_segment_id triggering_event_type triggering_event_id {_TIMES}"), _GRAPH
    ),
    "external_id_mapping_updates": Table(_MAPPING, _FILED),
    "profile_traits_updates": _updates("segment_id", "type <> 'group'", TRAITS),
    "account_profile_traits_updates": _updates("account_segment_id", "type = 'group'", ACCOUNT_TRAITS),
    "identifies": _event("type = 'identify'", "", "", "traits", TRAITS),
    "groups": _event("type = 'group'", "", "", "traits", ACCOUNT_TRAITS),
    "pages": _event("type = 'page'", "name category", _NAME, _PROPERTIES, "pages"),
    "screens": _event("type = 'screen'", "name category", _NAME, _PROPERTIES, "screens"),
    "aliases": _event("type = 'alias'", "previous_id", _ALIAS, "null", None),
    "tracks": _event("type = 'track'", "event event_text", _TRACK, "null", None),
}


def _tall(owner: str) -> Table:
    rows = f"""
        select *, getvariable('uuid_ts') as uuid_ts,
            case when token[1] = '"' and not contains(token, chr(92)) then token[2:-2]
                when token[1] = '"' then token::json->>'$' else token end as value
        from told where owner = '{owner}' and token is not null
    """
    return Table(_columns(f"canonical_segment_id name value {_TIMES}"), rows)


def _identifiers(owner: str) -> Table:
    rows = f"select *, getvariable('uuid_ts') as uuid_ts from identified where owner = '{owner}'"
    return Table(_columns(f"canonical_segment_id type value {_TIMES}"), rows)


def _profiles(owner: str, family: str) -> Table:
    rows = f"select *, getvariable('uuid_ts') as uuid_ts from profiled where owner = '{owner}'"
    return Table(_columns("canonical_segment_id merged_to uuid_ts:timestamp"), rows, family)


PROFILES: dict[str, Table] = {
    "user_traits": _tall("u"),
    "user_identifiers": _identifiers("u"),
    "account_traits": _tall("a"),
    "account_identifiers": _identifiers("a"),
    "profile_traits": _profiles("u", TRAITS),
    "account_profile_traits": _profiles("a", ACCOUNT_TRAITS),
    "profile_merges": Table(
        _columns(f"canonical_segment_id segment_id {_TIMES}"),
        "select *, getvariable('uuid_ts') as uuid_ts from merged",
    ),
}
# Whose rows in each are written anew, as a table of the kernel names them (reading.py).
GONE = {name: "renamed" if "identifiers" in name or "merges" in name else "changed" for name in PROFILES}
TABLES = {**RAW, **PROFILES}

# Views, over the tables that each needs; `{name}` stands for a table, quoted as the target wants it.
VIEWS: dict[str, tuple[tuple[str, ...], str]] = {
    "id_graph": (
        ("id_graph_updates",),
        "select segment_id, canonical_segment_id, triggering_event_id, seq, timestamp, received_at, uuid_ts from ("
        "select *, row_number() over (partition by segment_id order by seq desc) as newest from {id_graph_updates}"
        ") as updates where newest = 1",
    ),
    "external_id_mapping": (
        ("id_graph_updates", "external_id_mapping_updates"),
        "select m.external_id_type, m.external_id_value, m.external_id_hash, m.segment_id, g.canonical_segment_id,"
        " m.seq, m.timestamp, m.received_at, m.uuid_ts from ("
        "select *, row_number() over (partition by substr(segment_id, 1, 3), external_id_type, external_id_value"
        " order by seq desc) as newest from {external_id_mapping_updates}) as m join ("
        "select segment_id, canonical_segment_id, row_number() over (partition by segment_id order by seq desc)"
        " as newest from {id_graph_updates}) as g on g.segment_id = m.segment_id"
        " where m.newest = 1 and g.newest = 1 and m.__operation = 'CREATED'",
    ),
}

# --- what a chunk says ------------------------------------------------------------------------------

EVENTS_SAID = (
    "select event from calls where type = 'track' and event is not null group by event order by min(seq), event"
)
EVENT_TABLES = """
    create or replace temp table event_tables as
    select unnest(?::varchar[]) as name, unnest(?::varchar[]) as event
"""
# The traits and properties of a chunk, with the family of their columns.
DOCS = f"""
    create or replace temp view docs as from (
        select case
                when type in ('page', 'screen') then type || 's'
                when type = 'track' then (select any_value(t.event) from event_tables t where t.name = calls.event)
            end as family, seq, said.properties as doc
        from calls where type in ('page', 'screen', 'track') and json_type(said.properties) = 'OBJECT'
        union all
        select case when type = 'group' then '{ACCOUNT_TRAITS}' else '{TRAITS}' end, seq, traits::json
        from calls where traits is not null
    ) where family is not null
"""
# The names in these, by family: how many have each, and how many there are.
NAMES = """
    select family, name, count(*) as having, (select count(*) from docs) as docs
    from (select family, unnest(json_keys(doc)) as name from docs) group by family, name
"""
# Names that one in so many has are looked for in all: the cheaper way to take them apart.
OFTEN = 16


def kinds(names: Mapping[str, bool], open_: Collection[str], traits: Sequence[str] | None) -> str:
    """The kinds of values that each name has, in the order in which they came; `traits`: patterns of those wanted.

    At least of the names that are `open_`.
    """
    return f"""
        select family, name, bit_or({KIND}) as kinds from ({apart("docs", "family, seq", "doc", names, open_)})
        where family not in ('{TRAITS}', '{ACCOUNT_TRAITS}') or {_wanted(traits)}
        group by family, name order by min(seq), name
    """


def apart(rows: str, kept: str, doc: str, names: Mapping[str, bool], asked: Collection[str] | None = None) -> str:
    """What is `kept` of some rows once for each name in a JSON object of theirs, with the token: the JSON of its value.

    `names` are all that there are, and whether many have them; others than those `asked` for, if given, may be missing.
    What is null has no token and is left out.
    """
    asked = names if asked is None else asked
    often = sorted(name for name, often in names.items() if often)
    listed = _list(often)
    ways = []
    if sought := [name for name in often if name in asked]:
        pointers = ", ".join(literal("/" + name.replace("~", "~0").replace("/", "~1")) for name in sought)
        ways.append(f"""
            select {kept}, unnest({_list(sought)}) as name, unnest(json_extract({doc}, [{pointers}]))::varchar as token
            from {rows} where {doc} is not null
        """)
    if any(name in asked for name, often in names.items() if not often):
        ways.append(f"""select * from (
            select {kept}, unnest(map_keys(m)) as name, unnest(map_values(m))::varchar as token from (
                select *, {doc}::json::map(varchar, json) as m from {rows}
                where {doc} is not null and not list_has_all({listed}, json_keys({doc}))
            )) where not list_contains({listed}, name)""")
    everything = " union all ".join(ways) or f"select {kept}, '' as name, '' as token from {rows} where false"
    return f"select * from ({everything}) where token <> 'null'"


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(literal, names))}]::varchar[]"


def _wanted(patterns: Sequence[str] | None) -> str:
    if patterns is None:
        return "true"
    return f"({' or '.join(f'name glob {literal(pattern)}' for pattern in patterns) or 'false'})"


# --- profiles ---------------------------------------------------------------------------------------

# What the profile tables are made of, where a segment is the call that made it.
_SINGLE = """
    create or replace temp view identified as
    select s.segment_id as canonical_segment_id, s.owner, k.name as type, s.filed[2] as value, s.seq, s.timestamp,
        s.received_at
    from (select * exclude (filed), unnest(filed) as filed from single) s join kinds k on k.type = s.filed[1]::bigint;
    create or replace temp view told as
    select segment_id as canonical_segment_id, * exclude (segment_id) from ({told}) where {wanted};
    create or replace temp view profiled as
    select segment_id as canonical_segment_id, owner, null::varchar as merged_to, traits as doc from single;
    create or replace temp view merged as
    select null::varchar as canonical_segment_id, null::varchar as segment_id, null::bigint as seq,
        null::timestamptz as timestamp, null::timestamptz as received_at
    where false;
"""
# The same of whole profiles in `segments`: of each trait the newest value, by time and call (traits.merged).
_WHOLE = """
    create or replace temp table member as
    select s.*, p.segment_id as canonical_segment_id, case s.segment_id[1] when 'u' then 'u' else 'a' end as owner
    from segments s join segments p on p.segment = s.profile;
    create or replace temp view identified as
    select p.canonical_segment_id, p.owner, k.name as type, f.value, f.seq, make_timestamptz(f.time) as timestamp,
        t.received_at
    from filed f join member p on p.segment = f.profile join kinds k on k.type = f.type join times t on t.seq = f.seq;
    create or replace temp table newest as
    select n.*, t.timestamp, t.received_at from (
        select canonical_segment_id, owner, name, (arg_max({{token: token}}, [time, seq])).token as token,
            max([time, seq])[2] as seq
        from (
            select canonical_segment_id, owner, name, token, coalesce(stamps[name][1], time) as time,
                coalesce(stamps[name][2], seq) as seq
            from (
                select *, unnest(map_keys(m)) as name, nullif(unnest(map_values(m))::varchar, 'null') as token from (
                    select *, traits::json::map(varchar, json) as m, meta::json::map(varchar, bigint[]) as stamps
                    from member where traits is not null
                )
            ) where {wanted}
        ) group by all
    ) n join times t on t.seq = n.seq;
    create or replace temp view told as from newest;
    create or replace temp view profiled as
    select m.segment_id as canonical_segment_id, m.owner,
        case when m.segment <> m.profile then m.canonical_segment_id end as merged_to,
        case when m.segment = m.profile then d.doc end as doc
    from member m left join (
        select canonical_segment_id, json_group_object(name, token::json)::varchar as doc
        from newest where token is not null group by canonical_segment_id
    ) d on d.canonical_segment_id = m.canonical_segment_id;
    create or replace temp view merged as
    select m.canonical_segment_id, m.segment_id, j.seq, t.timestamp, t.received_at
    from member m left join joined_at j on j.segment = m.segment left join times t on t.seq = j.seq
    where m.segment <> m.profile and ({whole} or m.segment_id in (select segment_id from renamed));
"""


def single(names: Mapping[str, bool], traits: Sequence[str] | None) -> str:
    """`names` and `traits` as for `kinds`."""
    told = apart("single", "segment_id, owner, seq, timestamp, received_at", "traits", names)
    return _SINGLE.format(told=told, wanted=_wanted(traits))


def whole(traits: Sequence[str] | None, *, every: bool) -> str:
    """`every`: all profiles are laid out, not those that changed."""
    return _WHOLE.format(wanted=_wanted(traits), whole=str(every).lower())
