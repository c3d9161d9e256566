"""What can be wrong with a checkpoint, a hub, a tokenizer or the arrays a script hands to the model.

VLAError (vla_client.errors)
└── OctoError
    ├── CheckpointError     a file missing or damaged, parameters or statistics that do not fit the model
    ├── HubError            unknown repository or revision, file missing, no room for it
    │   └── HubUnreachable  the hub does not answer, or not in full: another try may help
    ├── TokenizerError      no vocabulary, or one of an unknown kind
    ├── ModelConfigError    the checkpoint's config.json asks for what this model does not know
    ├── DeviceError         the requested device is not available
    ├── InputError          observations or tasks that do not fit the checkpoint
    └── TrainingError       training data, settings and run folder that do not fit together
"""

from vla_client.errors import VLAError


class OctoError(VLAError):
    """An error of Octo: the message says what was given and expected, the hint what to do. A traceback shows both."""

    def __str__(self) -> str:
        return self.as_sentence()


class CheckpointError(OctoError):
    """A file is missing or damaged, or parameters or statistics do not fit the model."""


class HubError(OctoError):
    """The hub cannot be reached, or does not have what was asked for."""


class HubUnreachable(HubError):
    """The hub does not answer, or a download is incomplete: another try may help."""


class TokenizerError(OctoError):
    """The vocabulary is missing, or of an unknown kind."""


class ModelConfigError(OctoError):
    """The checkpoint's config.json asks for something this model does not know."""


class DeviceError(OctoError):
    """The requested device is not available."""


class InputError(OctoError):
    """Observations or tasks do not fit the checkpoint."""


class TrainingError(OctoError):
    """A training run cannot start, or resume, with this data, these settings and this folder."""
