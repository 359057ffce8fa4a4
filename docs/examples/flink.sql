-- The newest status of every order, from all copies of all changes: the newest write time wins.
--
--     sql-client.sh -f flink.sql      (with flink-sql-connector-kafka in lib/)
--
-- Set the brokers in the table below. `scan.bounded.mode` makes it end; without it the query goes on for ever.
SET 'execution.runtime-mode' = 'batch';

CREATE TABLE order_events (
  `key` ROW<customer STRING>,
  partition_delete ROW<ts BIGINT>,
  `rows` ARRAY<ROW<
    clustering ROW<`number` INT>,
    `delete` ROW<ts BIGINT>,
    cells ROW<status ROW<`value` STRING, deleted BIGINT, ts BIGINT>>
  >>,
  range_deletes ARRAY<ROW<
    `start` ROW<clustering ROW<`number` INT>, inclusive BOOLEAN>,
    `end` ROW<clustering ROW<`number` INT>, inclusive BOOLEAN>,
    ts BIGINT
  >>
) WITH (
  'connector' = 'kafka',
  'topic' = 'cassandra.shop.orders',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'json'
);

-- A row of an event may say nothing of the status: its columns are then null.
CREATE VIEW statuses AS
SELECT e.`key`.customer AS customer, r.clustering.`number` AS `number`,
       r.cells.status.`value` AS status, r.cells.status.deleted IS NOT NULL AS removed, r.cells.status.ts AS ts
FROM order_events AS e CROSS JOIN UNNEST(e.`rows`) AS r (clustering, `delete`, cells)
WHERE r.cells.status.ts IS NOT NULL;

-- Deletions of rows, of partitions and of ranges. The table has `number DESC`: a range starts at its highest number.
CREATE VIEW deletions AS
SELECT e.`key`.customer AS customer, r.clustering.`number` AS low, r.clustering.`number` AS high, r.`delete`.ts AS ts
FROM order_events AS e CROSS JOIN UNNEST(e.`rows`) AS r (clustering, `delete`, cells)
WHERE r.`delete`.ts IS NOT NULL
UNION ALL
SELECT `key`.customer, CAST(NULL AS INT), CAST(NULL AS INT), partition_delete.ts
FROM order_events WHERE partition_delete.ts IS NOT NULL
UNION ALL
SELECT e.`key`.customer,
       r.`end`.clustering.`number` + CASE WHEN r.`end`.inclusive THEN 0 ELSE 1 END,
       r.`start`.clustering.`number` - CASE WHEN r.`start`.inclusive THEN 0 ELSE 1 END, r.ts
FROM order_events AS e CROSS JOIN UNNEST(e.range_deletes) AS r (`start`, `end`, ts);

CREATE VIEW newest AS
SELECT customer, `number`, status, removed, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer, `number` ORDER BY ts DESC, removed DESC, status DESC) AS place
  FROM statuses
) WHERE place = 1;

-- Without TTLs: this table has none.
SELECT n.customer, n.`number`, n.status
FROM newest AS n LEFT JOIN deletions AS d
  ON d.customer = n.customer AND d.ts >= n.ts
  AND (d.low IS NULL OR d.low <= n.`number`) AND (d.high IS NULL OR d.high >= n.`number`)
WHERE NOT n.removed
GROUP BY n.customer, n.`number`, n.status
HAVING COUNT(d.ts) = 0;
