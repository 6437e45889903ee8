-- Liquidations of the hour before the newest one, by venue and side: USD, number, largest, and how complete the venue is
SELECT
    venue,
    position_side,
    sum(notional_usd) AS notional_usd,
    count(*) AS liquidations,
    max(notional_usd) AS largest_usd,
    min(completeness) AS completeness,
    max(receive_time) AS newest_time
FROM liquidations
WHERE receive_time > (SELECT max(receive_time) FROM liquidations) - INTERVAL '1 hour'
GROUP BY venue, position_side
