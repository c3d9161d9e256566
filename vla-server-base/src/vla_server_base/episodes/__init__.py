"""The closed loop: observe, predict, control, simulate, judge."""

from vla_server_base.episodes.events import EpisodeEnd, EpisodeStart, EpisodeStep
from vla_server_base.episodes.http_client import PolicyServer
from vla_server_base.episodes.loop import play
from vla_server_base.episodes.policies import HttpPolicy, LastObservations, load_policy
from vla_server_base.episodes.settings import EpisodeSettings, Predicate

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
