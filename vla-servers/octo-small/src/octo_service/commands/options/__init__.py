"""The flags of every command, a module a command. Only modules that import fast are imported here, for `--help`."""

from octo_service.commands.options.check import Check
from octo_service.commands.options.convert import Convert
from octo_service.commands.options.convert_data import ConvertData
from octo_service.commands.options.demo import Demo
from octo_service.commands.options.demonstrate import Demonstrate
from octo_service.commands.options.evaluate import Evaluate
from octo_service.commands.options.finetune import Finetune
from octo_service.commands.options.predict import Predict
from octo_service.commands.options.serve import Serve

Options = Serve | Demo | Predict | Convert | ConvertData | Check | Demonstrate | Finetune | Evaluate

COMMANDS: dict[str, type[Options]] = {
    "serve": Serve,
    "demo": Demo,
    "predict": Predict,
    "convert": Convert,
    "convert-data": ConvertData,
    "check": Check,
    "demonstrate": Demonstrate,
    "finetune": Finetune,
    "evaluate": Evaluate,
}
