"""The instructions of a task. Some paraphrases are held out: no instruction for training uses their templates."""

from functools import lru_cache

from vla_server_base.tabletop.splits import Split
from vla_server_base.tabletop.tasks import TASKS, TabletopTask, Verb

OBJECT_NAMES = {
    "red_cube": ("red cube", "red block"),
    "blue_cube": ("blue cube", "blue block"),
    "green_sphere": ("green sphere", "green ball"),
}

TRAINED: dict[Verb, tuple[str, ...]] = {
    "pick_up": (
        "pick up the {object}",
        "lift the {object}",
        "grab the {object}",
        "take the {object}",
        "raise the {object}",
        "please pick up the {object}",
        "pick the {object} up off the table",
        "grab the {object} and lift it",
        "lift the {object} up from the table",
        "get the {object}",
    ),
    "push_left": (
        "push the {object} left",
        "push the {object} to the left",
        "move the {object} left",
        "slide the {object} to the left",
        "shove the {object} left",
        "please push the {object} to the left",
        "slide the {object} left across the table",
        "push the {object} over to the left side",
    ),
    "push_right": (
        "push the {object} right",
        "push the {object} to the right",
        "move the {object} right",
        "slide the {object} to the right",
        "shove the {object} right",
        "please push the {object} to the right",
        "slide the {object} right across the table",
        "push the {object} over to the right side",
    ),
    "put_on": (
        "put the {object} on the {target}",
        "place the {object} on the {target}",
        "stack the {object} on the {target}",
        "set the {object} on top of the {target}",
        "put the {object} on top of the {target}",
        "please stack the {object} on top of the {target}",
        "pick up the {object} and put it on the {target}",
        "take the {object} and place it on top of the {target}",
    ),
    "put_next_to": (
        "put the {object} next to the {target}",
        "place the {object} next to the {target}",
        "set the {object} beside the {target}",
        "put the {object} beside the {target}",
        "move the {object} next to the {target}",
        "please put the {object} next to the {target}",
        "pick up the {object} and put it next to the {target}",
        "take the {object} and set it beside the {target}",
    ),
}

HELD_OUT: dict[Verb, tuple[str, ...]] = {
    "pick_up": (
        "lift up the {object}",
        "please grab the {object}",
        "pick up the {object} from the table",
        "take the {object} off the table",
    ),
    "push_left": (
        "slide the {object} left",
        "shove the {object} to the left",
        "move the {object} over to the left",
        "please slide the {object} left across the table",
    ),
    "push_right": (
        "slide the {object} right",
        "shove the {object} to the right",
        "move the {object} over to the right",
        "please slide the {object} right across the table",
    ),
    "put_on": (
        "set the {object} on the {target}",
        "stack the {object} on top of the {target}",
        "please place the {object} on the {target}",
        "grab the {object} and put it on top of the {target}",
    ),
    "put_next_to": (
        "place the {object} beside the {target}",
        "set the {object} next to the {target}",
        "please move the {object} beside the {target}",
        "grab the {object} and place it next to the {target}",
    ),
}


def paraphrases(task: TabletopTask, split: Split = "train") -> tuple[str, ...]:
    """Return all instructions of a task in a split, the simplest first.

    The held-out ones use words of the trained ones in other templates.
    """
    templates = (TRAINED if split == "train" else HELD_OUT)[task.verb]
    objects = OBJECT_NAMES[task.object]
    targets = OBJECT_NAMES[task.target] if task.target else ("",)
    return tuple(
        template.format(object=name, target=target) for template in templates for name in objects for target in targets
    )


def task_of_instruction(instruction: str) -> TabletopTask | None:
    """Return the task of an instruction, in any paraphrase of either split and in any case, or None."""
    return _tasks_by_instruction().get(instruction.strip().lower().rstrip("."))


@lru_cache
def _tasks_by_instruction() -> dict[str, TabletopTask]:
    return {
        instruction: task
        for task in TASKS.values()
        for split in ("train", "held_out")
        for instruction in paraphrases(task, split)
    }
