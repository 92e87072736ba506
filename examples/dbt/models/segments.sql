-- Where every segment_id belongs now: the newest word about it counts.
select segment_id, canonical_segment_id, timestamp
from (
    select *, row_number() over (partition by segment_id order by seq desc) as newest
    from {{ source('profiles', 'id_graph_updates') }}
) as updates
where newest = 1
