"""`certify`: what a policy answers, with which weights, code and machine, in a file that a second machine verifies."""

import dataclasses
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from vla_server_base.commands.certificate import (
    FORM,
    NumberedPredictions,
    PolicyCertificate,
    hashes_of,
    machine_of,
    outputs_of,
)
from vla_server_base.commands.certificate_checks import checks, own_checks
from vla_server_base.commands.circumstances import versions_of
from vla_server_base.commands.options.certify import Certify
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.commands.progress import phase
from vla_server_base.config import ServerConfig
from vla_server_base.errors import UsageError
from vla_server_base.machine import processor


def run(options: Certify[Config], program: PolicyProgram[Config]) -> None:
    """Write a certificate, or say line by line whether one holds here."""
    if (options.out is None) == (options.verify is None):
        raise UsageError(
            "certify takes one of --out and --verify", hint="--out FILE writes one, --verify FILE reads one"
        )
    if options.verify is None:
        config, stated, num = options.config, None, options.num
    else:
        stated = _read(options.verify)
        config, num = _config_of(stated, options.config), stated.outputs.num
    here = _measure(options.server, config, program, num, options.predictions)
    lines = list(own_checks(here) if stated is None else checks(stated, here))
    for line in lines:
        print(line)
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(here), indent=2) + b"\n")
        print(f"written      {options.out}")
    if any(line.holds is False for line in lines):
        sys.exit(1)


def _measure(
    server: ServerConfig, config: Config, program: PolicyProgram[Config], num: int, num_timed: int
) -> PolicyCertificate:
    adapter = program.make_adapter(config)
    phase(f"loading {config.model}")
    adapter.load_model(config.model, server.device, server.cache_dir)
    phase(f"predicting {num} inputs, alone and in one batch")
    measured = NumberedPredictions(adapter=adapter, num=num)
    batching, repeats = measured.batching(), measured.repeats_bit_equal()
    phase(f"timing {num_timed} predictions")
    latency = measured.latency(num_timed)
    phase("comparing with recorded outputs")
    return PolicyCertificate(
        command=program.typed,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=config.model,
        settings=_settings_of(config),
        hashes=hashes_of(adapter, measured.inputs),
        versions=versions_of(program),
        machine=machine_of(adapter.spec, processor()),
        deviations=tuple(program.deviations(adapter)),
        batching=batching,
        repeats_bit_equal=repeats,
        latency_ms=latency,
        outputs=outputs_of(measured.chunks),
    )


def _settings_of(config: Any) -> dict[str, Any]:
    """Return a policy's settings as JSON has them, without the model, which is named apart."""
    settings = msgspec.to_builtins(dataclasses.asdict(config), enc_hook=str)
    return {name: value for name, value in settings.items() if name != "model"}


def _config_of(stated: PolicyCertificate, config: Config) -> Config:
    """Return the settings with which a certificate was made; paths are this machine's own."""
    kind, known = type(config), _settings_of(config)
    own = {name: getattr(config, name) for name in known if isinstance(getattr(config, name), Path)}
    return kind(**{"model": stated.model, **{k: v for k, v in stated.settings.items() if k in known}, **own})


def _read(path: Path) -> PolicyCertificate:
    try:
        content = msgspec.json.decode(path.read_bytes())
        if not isinstance(content, dict) or content.get("form") != FORM:
            raise UsageError(f"{path} is not a certificate of form {FORM}", hint="name a file that certify --out wrote")
        return msgspec.convert(content, PolicyCertificate)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a certificate ({error})", hint="name a file that certify --out wrote"
        ) from error
