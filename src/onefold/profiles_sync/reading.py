"""What a space holds, laid out in the kernel (a DuckDB of this process): chunks of calls, and segments whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import duckdb
import pyarrow as pa

from onefold import identity, log, space
from onefold.stores import Store

# Tables of the kernel that live as long as a run. `ids`: the segment_id of each segment that was met. `touched`: the
# segments that something new was said of. `more`: where all segments are read, those that are more than the call that
# made them, with the oldest of each's profile and whether they have a row of their own. `segments`: what is laid out
# as profiles, `filed` their identifiers; `changed`: those of them whose rows are to be written anew, `renamed` those
# whose identifiers and members are, too: who got some, or is of a profile in `moved`, which segments came to or left.
# `times`: of calls that these name.
_RUN = """
    create or replace temp table kinds (type bigint, collection varchar, name varchar);
    create or replace temp table sources (source bigint, slug varchar, name varchar);
    create or replace temp table ids (segment bigint, segment_id varchar);
    create or replace temp table touched (segment bigint, moved boolean);
    create or replace temp table more (segment bigint, profile bigint, own boolean);
    create or replace temp table segments (
        segment bigint, profile bigint, segment_id varchar, identifiers varchar, traits varchar, meta varchar,
        time bigint, seq bigint
    );
    create or replace temp table laid as from segments;
    create or replace temp table joined_at (segment bigint, seq bigint);
    create or replace temp table changed (segment_id varchar);
    create or replace temp table renamed (segment_id varchar);
    create or replace temp table moved (profile bigint);
    create or replace temp table times (seq bigint, timestamp timestamptz, received_at timestamptz);
"""
# The calls of a chunk; the segment_ids of the segments that they created are made of the first identifier that each
# filed (digest.segment_id, in SQL).
_READ = """
    select seq, born, "user", account, message_id, r.type, event, traits, time, source, source_name,
        make_timestamptz(time) as timestamp, make_timestamptz(received_at) as received_at, user_filed, account_filed,
        body,
        case when born & 1 = 1 then 'use_' || {user} end as user_id,
        case when born & 2 = 2 then 'grp_' || {account} end as account_id
    from (
        select c.* exclude (source), s.slug as source, s.name as source_name,
            from_json(user_identifiers, '[["VARCHAR"]]') as user_filed,
            from_json(account_identifiers, '[["VARCHAR"]]') as account_filed
        from chunk c join sources s on s.source = c.source
    ) r
    left join kinds u on u.type = user_filed[1][1]::bigint
    left join kinds a on a.type = account_filed[1][1]::bigint
"""
_DIGEST = "left(sha256(concat($1::varchar, '{letter}', {kind}.name, chr(0), {filed}[1][2])), 32)"
_READ = _READ.format(
    user=_DIGEST.format(letter="u", kind="u", filed="user_filed"),
    account=_DIGEST.format(letter="a", kind="a", filed="account_filed"),
)
_BORN = """
    create or replace temp view born as
    select "user" as segment, user_filed as filed, 'u' as owner,
        case when type <> 'group' then traits end as traits, seq, time, timestamp, received_at, type, message_id,
        user_id as segment_id
    from read where born & 1 = 1
    union all
    select account, account_filed, 'a',
        case when type = 'group' then traits end, seq, time, timestamp, received_at, type, message_id, account_id
    from read where born & 2 = 2
"""
# The segments that calls are filed under and did not create, and that have moved.
_NAMED_BEFORE = """
    create or replace temp table before as
    select distinct segment from (
        select "user" as segment from read where born & 1 = 0 union all
        select account from read where born & 2 = 0 union all
        select segment from moves union all select profile from moves
    ) where segment is not null
"""
_UNKNOWN = "select segment from before where segment not in (select segment from ids)"
_KNOWN = "create or replace temp table known as select * from ids where segment in (select segment from before)"
# The calls of a chunk, with the segment_ids that they are filed under.
_CALLS = """
    create or replace temp view calls as
    select r.* exclude (user_id, account_id, body),
        from_json(body, '{"userId": "VARCHAR", "anonymousId": "VARCHAR", "groupId": "VARCHAR", "name": "VARCHAR",
            "category": "VARCHAR", "previousId": "VARCHAR", "context": "JSON", "properties": "JSON"}') as said,
        coalesce(r.user_id, u.segment_id) as segment_id,
        coalesce(r.account_id, a.segment_id) as account_segment_id
    from read r left join known u on u.segment = r."user" left join known a on a.segment = r.account
"""
# Of the segments that were born: those that are nothing more are profiles as they are; the members of merged ones.
_SINGLE = """
    create or replace temp view single as from born where segment not in (select segment from more)
"""
_MEMBERS = """
    insert into laid
    select b.segment, m.profile, b.segment_id, to_json(list_transform(b.filed,
        lambda f: [f[1], f[2], b.time::varchar, b.seq::varchar]))::varchar, b.traits, null, b.time, b.seq
    from born b join more m on m.segment = b.segment and not m.own
"""
_MORE = """
    insert into more
    select coalesce(s.segment, m.segment), coalesce(m.profile, s.segment, m.segment), s.segment is not null
    from own s full join (
        select segment, profile from joined union select profile, profile from joined
    ) m on m.segment = s.segment
"""
_OWN = "select segment, segment_id, identifiers, coalesce(traits, '') as traits, coalesce(meta, '') as meta,\
 coalesce(time, 0) as time, coalesce(seq, 0) as seq from segment"
_KEPT = """
    insert into laid
    select s.segment, coalesce(m.profile, s.segment), s.segment_id, s.identifiers, nullif(s.traits, ''),
        nullif(s.meta, ''), s.time, s.seq
    from own s left join more m on m.segment = s.segment
"""
_SOME = "insert into segments from laid where profile between $1 and $2"
_THESE = """
    insert into segments
    select segment, profile, segment_id, identifiers, nullif(traits, ''), nullif(meta, ''), time, seq from own
"""
# The identifiers of profiles that are laid out; but where not all are, only of those that got some, or members.
_FILED = """
    create or replace temp table filed as
    select profile, item[1]::bigint as type, item[2] as value, item[3]::bigint as time, item[4]::bigint as seq
    from (select profile, unnest(from_json(identifiers, '[["VARCHAR"]]')) as item from segments)
"""
_AS_BEFORE = """
    delete from filed where profile not in (select profile from moved)
        and profile not in (select profile from filed where seq > $1)
"""
_CHANGED = """
    insert into changed select segment_id from segments;
    insert into renamed select segment_id from segments
    where {whole} or profile in (select profile from filed union all select profile from moved)
"""
_NAMED = """
    select distinct seq from (
        select seq from filed union all
        select seq from segments where seq > 0 union all
        select seq from joined_at where segment in (select segment from segments) union all
        select unnest(map_values(meta::json::map(varchar, bigint[])))[2] from segments where meta is not null
    ) where seq not in (select seq from times)
"""


# A thread reads so many calls of a part before another takes part in it.
BATCH = 30_720
# So many parts of the log (122,880 calls each where many are new) are a chunk: DuckDB gives each thread so many rows of
# a table, so that one part keeps one processor busy.
PARTS = 4
# So many profiles are laid out at once where all of a profile's segments are read.
AT_ONCE = 50_000


class Reading:
    """One run's way through a space, inside a snapshot of it."""

    def __init__(self, kernel: duckdb.DuckDBPyConnection, store: Store, names: Mapping[str, str], since: int) -> None:
        """`names`: of profile sources, by slug. `since`: the last call that the profiles in the target know of."""
        self.kernel, self.store, self.since = kernel, store, since
        self.last = store.counters()["seq"] - 1
        kernel.execute(_RUN)
        kinds = store.query("select type, collection, name from identifier_type")
        sources = store.query("select source, slug from source")
        called = [names.get(slug, slug) for slug in sources["slug"].to_pylist()]
        self._insert("kinds", kinds)
        self._insert("sources", sources.append_column("name", pa.array(called, pa.string())))

    def chunks(self, after: int, *, whole: bool) -> Iterator[int]:
        """Lay out the calls after a place, chunk by chunk; yields how many each has.

        A chunk is `calls`, `born`, `moves`; and with `whole`, which is from the first call on, `single`.
        """
        if whole:
            self._tell("own", self.store.query("select segment from segment"))
            self._tell("joined", self.store.query("select segment, profile from merged"))
            self.kernel.execute(_MORE)
        parts = log.tables(self.store, after)
        while calls := self._read(parts):
            first, last = self.kernel.execute("select min(seq), max(seq) from read").fetchall()[0]
            graph = "select seq, segment, profile from id_graph where seq between $1 and $2"
            self._tell("moves", self.store.query(graph, first, last))
            self.kernel.execute(_BORN)
            self.kernel.execute("insert into ids select segment, segment_id from born")
            self._identify()
            self.kernel.execute(_CALLS)
            self.kernel.execute("insert into times select seq, timestamp, received_at from read")
            if whole:
                self.kernel.execute(_SINGLE)
                self.kernel.execute(_MEMBERS)
            else:
                self.kernel.execute(_TOUCHED, [self.since])
            yield calls

    def _read(self, parts: Iterator[pa.Table]) -> int:
        """Make the next parts of the log one chunk; how many calls it has."""
        calls, into = 0, "create or replace temp table read as"
        for part in islice(parts, PARTS):
            self._tell("chunk", pa.Table.from_batches(part.combine_chunks().to_batches(BATCH)))
            self.kernel.execute(f"{into} {_READ}", [self.store.secret])
            calls, into = calls + part.num_rows, "insert into read"
        return calls

    def _identify(self) -> None:
        """Find the segment_ids of older segments that a chunk names."""
        self.kernel.execute(_NAMED_BEFORE)
        segments = self._numbers(_UNKNOWN)
        if segments:
            found = space.ids(self.store, segments)
            self._insert("ids", pa.table({"segment": [*found], "segment_id": [*found.values()]}))
        self.kernel.execute(_KNOWN)

    def gather(self, *, whole: bool) -> Iterator[bool]:
        """Lay out `segments`, after all chunks: with `whole` what no chunk had as `single`, else what was touched.

        Yields where some profiles are laid out, each with all its segments: whether they are the last.
        """
        self._insert("joined_at", self.store.query("select segment, max(seq) as seq from id_graph group by segment"))
        if whole:
            for batch in self.store.stream(_OWN):
                self._tell("own", pa.Table.from_batches([batch]))
                self.kernel.execute(_KEPT)
            profiles = self._numbers("select distinct profile from laid order by profile")
        else:
            profiles = self._touched()
        for start in range(0, len(profiles), AT_ONCE):
            some = profiles[start : start + AT_ONCE]
            self.kernel.execute("delete from segments")
            if whole:
                self.kernel.execute(_SOME, [some[0], some[-1]])
            else:
                self._tell("own", space.whole_rows(self.store, some))
                self.kernel.execute(_THESE)
            self.kernel.execute(_FILED)
            if not whole:
                self.kernel.execute(_AS_BEFORE, [self.since])
            self.kernel.execute(_CHANGED.format(whole=str(whole).lower()))
            self._times()
            yield start + AT_ONCE >= len(profiles)

    def _times(self) -> None:
        """Find the times of older calls that `segments` names."""
        seqs = self._numbers(_NAMED)
        if seqs:
            found = log.calls(self.store, seqs)
            rows = [(seq, call.time, call.received_at) for seq, call in found.items()]
            self._insert("times", identity.table(_TIMES, rows))

    def _touched(self) -> list[int]:
        """The profiles that may have changed, by their oldest segment: also those that one has left. Tells `moved`."""
        segments = self._numbers("select distinct segment from touched")
        moved = self._numbers("select distinct segment from touched where moved")
        left = self.store.asked(
            moved, "select distinct g.profile from id_graph g cross join asked a where g.segment = a.number"
        )
        moved += [row["profile"] for row in left]
        oldest = space.oldest(self.store, sorted({*segments, *moved}))
        self._insert("moved", pa.table({"profile": sorted({oldest[segment] for segment in moved})}, _MOVED))
        return sorted({*oldest.values()})

    def _numbers(self, sql: str) -> list[int]:
        return [number for (number,) in self.kernel.execute(sql).fetchall()]

    def _tell(self, name: str, rows: pa.Table) -> None:
        """Make Arrow rows a table of the kernel, as long as it is not told another."""
        self.kernel.register(name, rows)

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._tell("given", rows)
        self.kernel.execute(f"insert into {table} by name from given")
        self.kernel.unregister("given")


_TOUCHED = """
    insert into touched
    select "user", false from read where seq > $1 and "user" is not null union all
    select account, false from read where seq > $1 and account is not null union all
    select segment, true from moves where seq > $1
"""
_MOVED = pa.schema([("profile", pa.int64())])
_MOMENT = pa.timestamp("us", "UTC")
_TIMES = pa.schema([("seq", pa.int64()), ("timestamp", _MOMENT), ("received_at", _MOMENT)])
