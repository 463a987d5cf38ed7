"""What health messages say about the screen."""

from infoscreen.domain.showing import Picture, Sight, is_moving
from infoscreen.wire.messages import Health


def sight_of(health: Health) -> Sight:
    """Return as much of a health message as tells of the screen."""
    expected, actual, metrics = health.expected_state, health.actual_state, health.health_metrics
    captured = None if metrics is None else metrics.picture
    picture = None
    if captured is not None and captured.captured_at is not None:
        picture = Picture(captured.captured_at, captured.luminance, captured.changed_at)
    return Sight(
        health.timestamp,
        None if metrics is None else metrics.screen_on,
        None if metrics is None else metrics.last_frame_update,
        None if expected is None else bool(expected.media_file),
        None if expected is None else is_moving(expected.event_type),
        None if actual is None else actual.status,
        picture,
    )
