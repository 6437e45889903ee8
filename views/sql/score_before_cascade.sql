-- The newest score of the asset before each cascade began, from the hour before it; its columns are null where there was none
SELECT
    cascade_id,
    asset,
    position_side,
    began_time,
    window_usd,
    as_of,
    risk_absolute,
    CASE position_side WHEN 'LONG' THEN cascade_score_long ELSE cascade_score_short END AS cascade_score,
    severity,
    stablecoin_pressure,
    funding_rate_8h,
    long_short_ratio,
    open_interest_change_1h_percent,
    missing_inputs
FROM (
    SELECT
        c.cascade_id,
        c.asset,
        c.position_side,
        c.began_time,
        c.window_usd,
        s.as_of,
        s.risk_absolute,
        s.cascade_score_long,
        s.cascade_score_short,
        s.severity,
        s.stablecoin_pressure,
        s.funding_rate_8h,
        s.long_short_ratio,
        s.open_interest_change_1h_percent,
        s.missing_inputs,
        row_number() OVER (PARTITION BY c.cascade_id ORDER BY s.receive_time DESC, s.sequence DESC) AS place
    FROM cascades AS c
    LEFT JOIN scores AS s
        ON s.asset = c.asset
        AND s.receive_time < c.receive_time
        AND s.receive_time >= c.receive_time - INTERVAL '1 hour'
    WHERE c.phase = 'began'
) AS ranked
WHERE place = 1
