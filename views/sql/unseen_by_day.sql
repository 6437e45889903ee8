-- Gaps of each feed that ended on a UTC day: how many, the first and last moment, and how long the longest lasted
SELECT
    date AS day,
    venue,
    feed,
    count(*) AS gaps,
    min(from_time) AS first_from_time,
    max(to_time) AS last_to_time,
    max(to_time - from_time) AS longest
FROM gaps
GROUP BY date, venue, feed
