"""What a robot is to do, in a request."""

from vla_server_base.contract import Task
from vla_server_base.images import decode_image
from vla_server_base.wire.body import Body


class TaskFields(Body):
    """An instruction, goal pictures, or both, and the data set whose units the answer is in."""

    instruction: str = ""
    """What the robot is to do; may be left out where a goal image says it."""
    goal_image: str | None = None
    """What the primary camera shall see in the end: PNG, JPEG or WebP as base64, or as a data: URL."""
    goal_image_wrist: str | None = None
    """What the wrist camera shall see in the end."""
    dataset: str | None = None
    """Whose statistics un-normalize the action; without it the policy's default."""

    @property
    def has_goal_image(self) -> bool:
        """Whether there are pictures to decode."""
        return self.goal_image is not None or self.goal_image_wrist is not None


def task_from_body(body: TaskFields, max_pixels: int) -> Task:
    """Return the task, its goal images decoded."""
    encoded = {
        "primary": ("goal_image", body.goal_image),
        "wrist": ("goal_image_wrist", body.goal_image_wrist),
    }
    goals = {name: decode_image(text, field, max_pixels) for name, (field, text) in encoded.items() if text is not None}
    return Task(instruction=body.instruction if body.instruction.strip() else None, goal_images=goals)
