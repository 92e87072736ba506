"""Resolve whole batches at once: calls that share identifiers, and the profiles they touch, are a component.

A component whose final union is within every limit and cap was within them at every step, so its order decides
only what is filed where: that is computed with whole columns. Any other component is replayed call by call.
The answer is that of `identity.replay`, to the row; a property test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from onefold import identity
from onefold.identity import NOBODY, Known, Numbers, Pieces, Resolution
from onefold.rules import Rules

# Below so many calls the sequential form is quicker than setting up columns.
FEW = 64
_NAMES = ["collection", "type", "value"]


def resolve(calls: pa.Table, known: Known, rules: Rules, found: pa.Table | None = None) -> Resolution:
    """Resolve a batch (calls.SCHEMA) in the order of its rows.

    `found` is `identity.identifying(calls, rules)`, for a caller that has it already.
    """
    found = identity.identifying(calls, rules) if found is None else found
    times = calls.column("timestamp").to_numpy()
    if calls.num_rows < FEW:
        pieces = identity.replay_identifying(found, times, known, rules)
    else:
        pieces = resolve_identifying(found, times, known, rules)
    return identity.settle(pieces, known.next_segment)


def resolve_identifying(found: pa.Table, times: Numbers, known: Known, rules: Rules) -> Pieces:
    """`resolve` from the identifiers of a batch (identity.IDENTIFYING) and the times of all its calls in µs."""
    settled, pieces = _settled(found, len(times), known)
    for chosen, resolved in ((_alone, _creating), (_all, _entangled)):
        found = found.filter(~settled) if settled.any() else found
        if not found.num_rows:
            return pieces
        settled = chosen(found, known, rules)
        if settled.any():
            apart = found if settled.all() else found.filter(settled)
            pieces = pieces.joined(resolved(apart, times, known, rules))
    return pieces


def _all(found: pa.Table, _: Known, __: Rules) -> Numbers:
    return np.ones(found.num_rows, bool)


# --- calls that say nothing new -----------------------------------------------------------------------


def _settled(found: pa.Table, calls: int, known: Known) -> tuple[Numbers, Pieces]:
    """Whether each row's visit has only identifiers of one known profile, and what these visits come to.

    They are filed under the segment of their highest-ranked identifier, whatever the other calls do to its profile,
    and do nothing to any.
    """
    filed = [np.full(calls, NOBODY), np.full(calls, NOBODY)]
    none = Pieces(filed, *(schema.empty_table() for schema in _TABLES))
    if not found.num_rows or not known.identifiers.num_rows:
        return np.zeros(found.num_rows, bool), none
    codes, _, kind = _encode(found, known.identifiers)
    owner = np.full(len(kind), NOBODY)
    owner[codes[found.num_rows :]] = known.identifiers["segment"].to_numpy()
    segment = owner[codes[: found.num_rows]]
    segments, profiles = (known.segments[name].to_numpy() for name in ("segment", "profile"))
    order = np.argsort(segments)
    at = np.minimum(np.searchsorted(segments[order], segment), len(segments) - 1)
    profile = np.where(segment == NOBODY, NOBODY, profiles[order][at])
    visit, starts = identity.visits(found)
    least, most = np.minimum.reduceat(profile, starts), np.maximum.reduceat(profile, starts)
    settled = (least == most) & (least != NOBODY)
    for collection in (0, 1):
        mine = settled & (visit[starts] % 2 == collection)
        filed[collection][visit[starts][mine] // 2] = segment[starts][mine]
    return np.repeat(settled, np.diff(np.append(starts, len(visit)))), none


_TABLES = (identity.CREATED, identity.NEW_IDENTIFIERS, identity.EDGES, identity.MOVES, identity.DROPPED)


def _entangled(found: pa.Table, times: Numbers, known: Known, rules: Rules) -> Pieces:
    """The calls that share identifiers with others, or with known profiles."""
    graph = _graph(found, known)
    breaking = _breaking(graph, times, rules)
    whole = _whole(graph, times, ~breaking)
    if not breaking.any():
        return whole
    replayed = identity.replay_identifying(
        found.filter(breaking[graph.component]),
        times,
        Known(
            known.identifiers.filter(breaking[graph.known_component]),
            known.segments.filter(breaking[graph.segment_component]),
            known.next_segment,
        ),
        rules,
    )
    return whole.joined(replayed)


# --- calls that have their identifiers to themselves --------------------------------------------------


def _alone(found: pa.Table, known: Known, rules: Rules) -> Numbers:
    """Whether each row's visit has all its identifiers to itself, and at most one of a type.

    Told by the identifiers' hashes: two that share one only seem shared, and are resolved with the others.
    """
    hashes = found["hash"].to_numpy()
    order = np.argsort(hashes)
    same = hashes[order][1:] == hashes[order][:-1]
    shared = np.zeros(len(hashes), bool)
    shared[order] = np.r_[False, same] | np.r_[same, False]
    if known.hashes is None:
        shared |= known.identifiers.num_rows > 0
    elif len(known.hashes):
        shared |= np.isin(hashes, known.hashes)
    visit, starts = identity.visits(found)
    types = found["type"].combine_chunks().dictionary_encode()
    kind = types.indices.to_numpy()
    shared[1:] |= (kind[1:] == kind[:-1]) & (visit[1:] == visit[:-1])
    never = [at for at, name in enumerate(types.dictionary.to_pylist()) if rules.limit(name).most < 1]
    shared |= np.isin(kind, never)
    sizes = np.diff(np.append(starts, len(visit)))
    apart = (np.add.reduceat(shared, starts) == 0) & (sizes <= rules.identifiers) if len(starts) else starts > 0
    return np.repeat(apart, sizes)


def _creating(found: pa.Table, times: Numbers, known: Known, _: Rules) -> Pieces:
    """What visits come to that have their identifiers to themselves: each creates a profile."""
    visit, starts = identity.visits(found)
    segment = known.next_segment + visit
    filed = [np.full(len(times), NOBODY), np.full(len(times), NOBODY)]
    for collection in (0, 1):
        mine = visit[starts] % 2 == collection
        filed[collection][visit[starts][mine] // 2] = segment[starts][mine]
    call = found["call"]
    created = [segment[starts], *(found[name].take(starts) for name in _NAMES), call.take(starts)]
    new = [*(found[name] for name in (*_NAMES, "hash")), segment, times[call.to_numpy()], call]
    return Pieces(
        filed,
        created=pa.table(created, schema=identity.CREATED),
        identifiers=pa.table(new, schema=identity.NEW_IDENTIFIERS),
        edges=identity.EDGES.empty_table(),
        moves=identity.MOVES.empty_table(),
        dropped=identity.DROPPED.empty_table(),
    )


# --- components ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Graph:
    """A batch as integers. Rows are those of IDENTIFYING; a visit is one call in one collection."""

    found: pa.Table
    call: Numbers  # of each row
    visit: Numbers  # of each row: 2 * call + (1 for accounts)
    starts: Numbers  # the first row of each visit
    identifier: Numbers  # of each row
    kind: Numbers  # of each identifier: its type
    kinds: list[tuple[str, str]]  # (collection, type)
    owner: Numbers  # of each identifier: the segment it is filed under, or NOBODY
    first_seen: Numbers  # of each identifier that is known
    first: Numbers  # of each identifier: the first visit that carries it
    component: Numbers  # of each row
    of_identifier: Numbers  # the component of each identifier
    known_component: Numbers  # of each row of known.identifiers
    segment_component: Numbers  # of each row of known.segments
    components: int
    known: Known


def _graph(found: pa.Table, known: Known) -> _Graph:
    call = found["call"].to_numpy()
    visit, starts = identity.visits(found)
    codes, kinds, kind = _encode(found, known.identifiers)
    identifier, of_known = codes[: len(call)], codes[len(call) :]
    owner = np.full(len(kind), NOBODY)
    owner[of_known] = known.identifiers["segment"].to_numpy()
    first_seen = np.zeros(len(kind), np.int64)
    first_seen[of_known] = known.identifiers["first_seen"].to_numpy()
    first = np.full(len(kind), np.iinfo(np.int64).max)
    first[identifier[::-1]] = visit[::-1]  # the last assignment is that of the first row

    segments, profiles = known.segments["segment"].to_numpy(), known.segments["profile"].to_numpy()
    distinct, profile = np.unique(profiles, return_inverse=True)
    in_order = np.argsort(segments)
    of_owner = profile[in_order][np.searchsorted(segments[in_order], owner[of_known])] if len(of_known) else of_known
    components, label = _connect(identifier, visit, of_known, of_owner, len(kind), len(distinct))
    return _Graph(
        found, call, visit, starts, identifier, kind, kinds, owner, first_seen, first,
        component=label[identifier],
        of_identifier=label[: len(kind)],
        known_component=label[of_known],
        segment_component=label[len(kind) + profile],
        components=components,
        known=known,
    )  # fmt: skip


def _encode(found: pa.Table, known: pa.Table) -> tuple[Numbers, list[tuple[str, str]], Numbers]:
    """One integer an identifier: for the rows of both tables, with the types and each identifier's type."""
    both = pa.concat_tables([table.select(_NAMES) for table in (found, known)])
    codes = np.zeros(both.num_rows, np.int64)
    kinds: list[tuple[str, str]] = []
    sizes: list[int] = []
    for name, rows in identity.by_type(both):
        values = both["value"].take(rows).combine_chunks().dictionary_encode()
        codes[rows] = values.indices.to_numpy() + sum(sizes)
        kinds.append(name)
        sizes.append(len(values.dictionary))
    return codes, kinds, np.repeat(np.arange(len(kinds)), sizes)


def _connect(
    identifier: Numbers, visit: Numbers, of_known: Numbers, of_owner: Numbers, identifiers: int, profiles: int
) -> tuple[int, Numbers]:
    """Connected components of identifiers and known profiles: (how many, the label of each node)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    together = np.flatnonzero(visit[1:] == visit[:-1])
    a = np.r_[identifier[together], of_known]
    b = np.r_[identifier[together + 1], identifiers + of_owner]
    nodes = identifiers + profiles
    edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(nodes, nodes))
    count, label = connected_components(edges, directed=False)
    return int(count), label.astype(np.int64)


def _breaking(graph: _Graph, times: Numbers, rules: Rules) -> Numbers:
    """The components whose final union may break a limit or a cap at some step: those are replayed."""
    count, starts = graph.components, graph.starts
    creates = _creates(graph)
    of_visit = graph.component[starts]
    profiles = np.unique(graph.known.segments["profile"].to_numpy())
    of_profile = dict(zip(graph.known.segments["profile"].to_pylist(), graph.segment_component, strict=True))
    known_profiles = np.bincount(np.array([of_profile[at] for at in profiles.tolist()], int), minlength=count)
    created = np.bincount(of_visit[creates], minlength=count)
    segments = np.bincount(graph.segment_component, minlength=count) + created
    breaking: Numbers = np.bincount(graph.of_identifier, minlength=count) > rules.identifiers
    breaking |= (known_profiles + created > 1) & (segments - 1 > rules.merges)
    earliest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(earliest, of_visit, times[graph.call[starts]])
    for at, (_, kind) in enumerate(graph.kinds):
        limit = rules.limit(kind)
        counted = graph.kind == at
        if limit.window is not None:
            # A new value counts at every step; a known one while it may lie within the window.
            old = graph.first_seen <= earliest[graph.of_identifier] - limit.window
            counted &= ~(old & (graph.owner != NOBODY))
        breaking |= np.bincount(graph.of_identifier[counted], minlength=count) > limit.most
    return breaking


def _creates(graph: _Graph) -> Numbers:
    """Whether each visit creates a profile: none of its identifiers was seen before it."""
    if not len(graph.starts):
        return np.zeros(0, bool)
    new = (graph.owner[graph.identifier] == NOBODY) & (graph.first[graph.identifier] == graph.visit)
    return np.asarray(np.logical_and.reduceat(new, graph.starts))


def _whole(graph: _Graph, times: Numbers, chosen: Numbers) -> Pieces:
    """What the components that break nothing come to: nothing is dropped, so only filing and merging are left."""
    base, starts = graph.known.next_segment, graph.starts
    visits = graph.visit[starts]
    chosen_visit = chosen[graph.component[starts]]
    filed = _filed(graph)
    segments = [np.full(len(times), NOBODY), np.full(len(times), NOBODY)]
    for collection in (0, 1):
        mine = chosen_visit & (visits % 2 == collection)
        segments[collection][visits[mine] // 2] = filed[mine]
    creating = np.flatnonzero(_creates(graph) & chosen_visit)
    rows = starts[creating]
    created = [base + visits[creating], *(graph.found[name].take(rows) for name in _NAMES), visits[creating] // 2]
    # A new identifier is filed with the first visit that carries it; its row there is the first of all.
    visit_of_row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(graph.visit))))
    mine = chosen[graph.component] & (graph.owner[graph.identifier] == NOBODY)
    rows = np.flatnonzero(mine & (graph.first[graph.identifier] == graph.visit))
    call = graph.call[rows]
    new = [*(graph.found[name].take(rows) for name in (*_NAMES, "hash")), filed[visit_of_row[rows]], times[call], call]
    edges, moves = _merges(graph, filed, visit_of_row, chosen)
    return Pieces(
        segments,
        created=pa.table(created, schema=identity.CREATED),
        identifiers=pa.table(new, schema=identity.NEW_IDENTIFIERS),
        edges=identity.table(identity.EDGES, edges),
        moves=identity.table(identity.MOVES, moves),
        dropped=identity.DROPPED.empty_table(),
    )


def _filed(graph: _Graph) -> Numbers:
    """The segment of each visit: of its highest-ranked identifier that was filed before, else its own.

    An identifier of an earlier visit is filed where that visit was, and so on back: the chain is followed for
    all visits at once, in twice as long steps each time.
    """
    visits, starts = graph.visit[graph.starts], graph.starts
    rows = np.arange(len(graph.visit))
    before = (graph.owner[graph.identifier] != NOBODY) | (graph.first[graph.identifier] < graph.visit)
    nowhere = len(rows)
    row = np.minimum.reduceat(np.where(before, rows, nowhere), starts)
    creates = row == nowhere
    identifier = graph.identifier[np.where(creates, starts, row)]
    owner = np.where(creates, graph.known.next_segment + visits, graph.owner[identifier])
    # Where the owner is a visit of this batch, point to that visit; else to oneself.
    own = np.arange(len(visits))
    parent = np.where(owner == NOBODY, np.searchsorted(visits, graph.first[identifier]), own)
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            return np.asarray(owner[parent])
        parent = further


def _merges(
    graph: _Graph, filed: Numbers, visit_of_row: Numbers, chosen: Numbers
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Edges and moves, in order, of the visits whose identifiers lie under several segments."""
    first = graph.first[graph.identifier]
    owner = graph.owner[graph.identifier]
    earlier = np.searchsorted(graph.visit[graph.starts], first)
    under = np.where(owner != NOBODY, owner, np.where(first < graph.visit, filed[earlier], NOBODY))
    home = filed[visit_of_row]
    meets = (under != NOBODY) & (under != home) & chosen[graph.component]
    if not meets.any():
        return [], []
    profiles = _Profiles(graph.known)
    edges: list[tuple[int, int, int]] = []
    moves: list[tuple[int, int, int]] = []
    rows = np.flatnonzero(meets)
    for visit, group in groupby(rows.tolist(), key=lambda row: int(graph.visit[row])):
        found = list(group)
        joined = [int(under[row]) for row in found]
        call = visit // 2
        profiles.join(int(home[found[0]]), joined, call, edges, moves)
    return edges, moves


class _Profiles:
    """Which segments are one profile, while merges are recorded in order."""

    def __init__(self, known: Known) -> None:
        self.profile: dict[int, list[int]] = {}  # segment -> its profile's segments; the list is shared
        self.oldest: dict[int, int] = {}  # id of such a list -> its oldest segment
        grouped: dict[int, list[int]] = {}
        for segment, profile in identity.rows(known.segments):
            grouped.setdefault(profile, []).append(segment)
        for oldest, segments in grouped.items():
            self._own(segments, oldest)

    def _own(self, segments: list[int], oldest: int) -> None:
        self.oldest[id(segments)] = oldest
        for segment in segments:
            self.profile[segment] = segments

    def of(self, segment: int) -> list[int]:
        if segment not in self.profile:
            self._own([segment], segment)
        return self.profile[segment]

    def join(
        self,
        home: int,
        others: list[int],
        call: int,
        edges: list[tuple[int, int, int]],
        moves: list[tuple[int, int, int]],
    ) -> None:
        """Merge the profiles of `others` into that of `home`, as identity._Replay does."""
        profiles = [self.of(home)]
        for segment in others:
            found = self.of(segment)
            if not any(found is profile for profile in profiles):
                profiles.append(found)
                edges.append((home, segment, call))
        if len(profiles) == 1:
            return
        oldest = min(self.oldest[id(profile)] for profile in profiles)
        moved = sorted(at for profile in profiles if self.oldest[id(profile)] != oldest for at in profile)
        moves.extend((at, oldest, call) for at in moved)
        whole = max(profiles, key=len)
        for profile in profiles:
            if profile is not whole:
                for segment in profile:
                    self.profile[segment] = whole
                whole.extend(profile)
        self.oldest[id(whole)] = oldest
