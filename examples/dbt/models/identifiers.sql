-- Every identifier that holds now, with the profile it leads to.
select m.external_id_type, m.external_id_value, s.canonical_segment_id
from (
    select *, row_number() over (
        partition by substr(segment_id, 1, 3), external_id_type, external_id_value order by seq desc
    ) as newest
    from {{ source('profiles', 'external_id_mapping_updates') }}
) as m
join {{ ref('segments') }} as s on s.segment_id = m.segment_id
where m.newest = 1 and m.__operation = 'CREATED'
