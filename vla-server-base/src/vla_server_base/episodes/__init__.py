"""The closed loop: observe, predict, control, simulate, judge."""

from vla_server_base.episodes.loop import EpisodeEnd, EpisodeSettings, play
from vla_server_base.episodes.policies import HttpPolicy, load_policy

__all__ = ["EpisodeEnd", "EpisodeSettings", "HttpPolicy", "load_policy", "play"]
