-- The newest score of each asset: severity, risk, Cascade Score by side, 90-second sums in USD, and what it was without
SELECT
    asset,
    as_of,
    severity,
    risk_absolute,
    cascade_score_long,
    cascade_score_short,
    long_usd_90s,
    short_usd_90s,
    mark_price,
    liquidations_are_floors,
    missing_inputs
FROM (
    SELECT *, row_number() OVER (PARTITION BY asset ORDER BY receive_time DESC, sequence DESC) AS place FROM scores
) AS ranked
WHERE place = 1
