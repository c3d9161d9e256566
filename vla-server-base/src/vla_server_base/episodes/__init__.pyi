from .loop import EpisodeEnd, EpisodeSettings, play
from .policies import HttpPolicy, load_policy

__all__ = ["EpisodeEnd", "EpisodeSettings", "HttpPolicy", "load_policy", "play"]
