from .events import EpisodeEnd, EpisodeStart, EpisodeStep
from .http_client import PolicyServer
from .loop import play
from .policies import HttpPolicy, LastObservations, load_policy
from .settings import EpisodeSettings, Predicate

__all__ = [
    "EpisodeEnd",
    "EpisodeSettings",
    "EpisodeStart",
    "EpisodeStep",
    "HttpPolicy",
    "LastObservations",
    "PolicyServer",
    "Predicate",
    "load_policy",
    "play",
]
