"""The engines of the models that a server holds, and which of them takes what comes new."""

from vla_server_base.engine.engine import Engine
from vla_server_base.errors import UnknownName


class Engines:
    """Engines by their model's id. `serving` takes new sessions, new episodes and requests without a session."""

    def __init__(self, serving: Engine):
        self.serving = serving
        self.by_id: dict[str, Engine] = {serving.id: serving}

    def of(self, model: str) -> Engine:
        """Return the engine of a model that answers.

        Raises:
            UnknownName: the model is not held, or does not answer yet; with those that do.
        """
        engine = self.by_id.get(model)
        if engine is None or not engine.answers:
            raise UnknownName("model", model, [name for name, each in self.by_id.items() if each.answers])
        return engine
