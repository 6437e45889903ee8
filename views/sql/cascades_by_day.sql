-- One row per cascade: the UTC day it began, when it began and ended (null while it runs), and how large it became, in USD
SELECT
    min(date) AS day,
    cascade_id,
    asset,
    position_side,
    min(began_time) AS began_time,
    max(CASE WHEN phase = 'ended' THEN receive_time END) AS ended_time,
    max(peak_usd) AS peak_usd,
    max(total_usd) AS total_usd,
    max(total_count) AS liquidations
FROM cascades
GROUP BY cascade_id, asset, position_side
