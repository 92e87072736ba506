-- A day later. Ada signs in to the app with her shop account: what the app and the CRM know of her becomes hers.
update app_users set shop_customer_id = 42, last_seen_at = timestamptz '2026-01-05 10:00:00+00' where row_id = 42;
update shop_customers set vip = true, lifetime_value = 1815.12, updated_at = timestamp '2026-01-05 10:05:00'
where id = 42;
update shop_customers set country = 'IS', updated_at = timestamp '2026-01-05 11:00:00' where id % 50 = 7;
update marketing_preferences set newsletter = 'unsubscribed', changed_at = timestamp '2026-01-05 12:00:00'
where preference_id = 42;
insert into orders values ('O-99999999', 42, 250.00, 'GBP', [{'sku': 'SKU-1', 'quantity': 1}],
                           timestamp '2026-01-05 10:10:00');
delete from shop_customers where id = 13;
