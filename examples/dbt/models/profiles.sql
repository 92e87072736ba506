-- One row a profile: how many identifiers it has, and when it was first seen.
select
    s.canonical_segment_id,
    count(distinct i.external_id_type || ':' || i.external_id_value) as identifiers,
    min(s.timestamp) as first_seen
from {{ ref('segments') }} as s
left join {{ ref('identifiers') }} as i on i.canonical_segment_id = s.canonical_segment_id
group by s.canonical_segment_id
