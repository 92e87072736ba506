-- Five systems of one company, as systems are: they overlap, they disagree, and some rows are dirty.
-- Everything follows from row numbers, so that the same number of rows gives the same warehouse.

create macro pick(words, seed) as words[1 + (hash(seed) % len(words))::bigint];
create macro chance(seed, percent) as hash(seed) % 100 < percent;

create temp table person as
select
    i as id,
    pick(['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Donald', 'Margaret', 'Linus', 'Radia', 'Ken', 'Frances',
          'Tim', 'Hedy', 'Claude', 'Katherine', 'Dennis', 'Joan', 'Niklaus', 'Sophie', 'John'], i || 'f') as first_name,
    pick(['Lovelace', 'Hopper', 'Turing', 'Dijkstra', 'Liskov', 'Knuth', 'Hamilton', 'Torvalds', 'Perlman',
          'Thompson', 'Allen', 'Berners', 'Lamarr', 'Shannon', 'Johnson', 'Ritchie', 'Clarke', 'Wirth', 'Wilson',
          'Backus'], i || 'l') as last_name,
    pick(['NO', 'SE', 'DE', 'GB', 'US', 'FR', 'NL', 'ES'], i || 'c') as country,
    pick(['Northwind', 'Contoso', 'Globex', 'Initech', 'Umbrella', 'Hooli', 'Stark', 'Wayne', 'Acme', 'Soylent'],
         i || 'w') || ' ' || (1 + i % greatest(getvariable('rows') // 100, 1)) as company,
    timestamp '2024-01-01 08:00:00' + to_minutes((i * 37) % 400000) as joined_at
from range(1, getvariable('rows') + 1) t(i);

update person set first_name = 'Ada', last_name = 'Lovelace', country = 'GB', company = 'Analytical Engines'
where id = 42;

alter table person add column email varchar;
update person set email = lower(first_name || '.' || last_name || id || '@example.com');
update person set email = 'ada@example.com' where id = 42;

-- The shop: the most complete picture, with e-mail addresses as people typed them.
create table shop_customers as
select
    id,
    case when chance(id || 'typed', 10) then ' ' || upper(email) || ' ' when id % 97 = 0 then 'null' else email end
        as email,
    first_name, last_name,
    '+4479' || lpad(id::varchar, 8, '0') as phone,
    country,
    ((hash(id || 'v') % 500000) / 100)::decimal(10, 2) as lifetime_value,
    chance(id || 'vip', 5) as vip,
    joined_at as created_at,
    joined_at + to_days((hash(id || 'u') % 90)::integer) as updated_at
from person order by id;

-- The app: devices; most people have not told it who they are, and some sign in with a work address.
create table app_users as
select
    id as row_id,
    md5('device' || id) as device_id,
    case when chance(id || 'in', 50) and id <> 42 then id end as shop_customer_id,
    case when chance(id || 'work', 30) or id = 42
         then lower(first_name || '.' || last_name || id || '@' || replace(company, ' ', '') || '.example')
         when chance(id || 'mail', 50) then email end as email,
    pick(['free', 'pro', 'team'], id || 'plan') as plan,
    pick(['ios', 'android', 'web'], id || 'os') as platform,
    (joined_at + to_days((hash(id || 's') % 120)::integer)) at time zone 'UTC' as last_seen_at
from person where chance(id || 'app', 70) or id = 42 order by id;

-- The CRM: contacts at companies, under their work addresses, and the companies themselves.
create table crm_contacts as
select
    'C-' || lpad(id::varchar, 6, '0') as contact_id,
    lower(first_name || '.' || last_name || id || '@' || replace(company, ' ', '') || '.example') as email,
    company,
    'A-' || upper(left(md5(company), 6)) as account_id,
    pick(['Engineer', 'Analyst', 'Buyer', 'Director'], id || 'job') as job_title,
    joined_at + to_days(30) as modified_at
from person where chance(id || 'crm', 25) or id = 42 order by id;

create table crm_accounts as
select
    account_id, company as name,
    pick(['software', 'retail', 'energy', 'finance'], company || 'i') as industry,
    (10 + hash(company || 'e') % 5000)::integer as employees,
    min(contact_id) as main_contact_id,
    max(modified_at) as modified_at
from crm_contacts group by account_id, company order by account_id;

-- The marketing tool: what people said about channels, in the words of three different forms.
create table marketing_preferences as
select
    id as preference_id,
    email,
    case when id % 211 = 0 then 'maybe'
         else pick(['subscribed', 'true', 'unsubscribed', 'FALSE', 'did_not_subscribe'], id || 'news') end as newsletter,
    case when chance(id || 'sms', 40) then '+4479' || lpad(id::varchar, 8, '0') end as phone,
    case when chance(id || 'sms', 40) then chance(id || 'yes', 70) end as sms_opt_in,
    {'product_news': chance(id || 'pn', 60), 'offers': chance(id || 'of', 40)} as lists,
    joined_at + to_days(3) as changed_at
from person where chance(id || 'pref', 60) or id = 42 order by id;

-- The orders: two a customer on average, each an event.
create table orders as
select
    'O-' || lpad(n::varchar, 8, '0') as order_id,
    customer_id,
    ((500 + hash(n || 'total') % 20000) / 100)::decimal(10, 2) as total,
    pick(['EUR', 'GBP', 'USD'], customer_id || 'cur') as currency,
    [{'sku': 'SKU-' || (hash(n || 'a') % 50), 'quantity': (1 + hash(n || 'q') % 3)::integer}] as items,
    timestamp '2025-01-01 09:00:00' + to_minutes((n * 13) % 300000) as ordered_at
from (select n, case when n % 250 = 0 then 42 else 1 + (hash(n || 'who') % getvariable('rows'))::bigint end
          as customer_id
      from range(1, 2 * getvariable('rows') + 1) t(n))
order by ordered_at, order_id;

drop macro pick;
drop macro chance;
