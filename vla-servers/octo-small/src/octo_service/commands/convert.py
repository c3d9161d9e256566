"""`octo-service convert`: write a checkpoint of any form as a new one."""

from octo_service.checkpoints.saving import save_checkpoint
from octo_service.commands.options.convert import Convert
from octo_service.config import OctoConfig
from octo_service.model import OctoModel
from vla_server_base.commands.program import PolicyProgram


def run(options: Convert, _program: PolicyProgram[OctoConfig]) -> None:
    """Load and save."""
    model = OctoModel.load_pretrained(options.source, step=options.step, tokenizer=options.octo.tokenizer)
    save_checkpoint(options.target, model.checkpoint, options.form)
    observation = model.octo.observation_names(model.example_batch["observation"])
    cameras = [name.removeprefix("image_") for name in observation if name.startswith("image_")]
    print(
        f"{options.target}: step {model.checkpoint.step}, {len(model.checkpoint.params)} arrays, "
        f"cameras {', '.join(cameras) or 'none'}"
    )
