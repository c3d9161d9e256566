"""What can be wrong with a checkpoint, a hub, a tokenizer or the arrays a script hands to the model.

OctoError
├── CheckpointError     a file missing or damaged, parameters or statistics that do not fit the model
├── HubError            unknown repository or revision, file missing, no room for it
│   └── HubUnreachable  the hub does not answer, or not in full: another try may help
├── TokenizerError      no vocabulary, or not one of the kinds known here
├── ConfigError         the checkpoint's config.json asks for what this model does not know
├── DeviceError         the device that is asked for is not there
├── InputError          observations or tasks that do not fit the checkpoint
├── TrainingError       a run of training whose data, settings and folder do not fit together
├── UsageError          a flag's value is out of range, or flags exclude one another
└── Interrupted         Ctrl-C ended a command; the message says what is kept, and how to go on
"""


class OctoError(Exception):
    """One sentence that names what was found, what was expected, and what to do instead."""


class CheckpointError(OctoError):
    """A file is missing or damaged, or parameters or statistics do not fit the model."""


class HubError(OctoError):
    """The hub cannot be reached, or does not have what was asked for."""


class HubUnreachable(HubError):
    """The hub does not answer, or what it sent did not arrive whole: another try may help."""


class TokenizerError(OctoError):
    """The vocabulary is missing, or not one of the kinds known here."""


class ConfigError(OctoError):
    """The checkpoint's config.json asks for something this model does not know."""


class DeviceError(OctoError):
    """The device that is asked for is not there."""


class InputError(OctoError):
    """Observations or tasks do not fit the checkpoint."""


class TrainingError(OctoError):
    """A run of training cannot be started, or gone on with, with this data, these settings and this folder."""


class UsageError(OctoError):
    """A flag's value is out of range, or flags exclude one another."""


class Interrupted(OctoError):
    """Ctrl-C ended a command; the message says what is kept, and how to go on."""
