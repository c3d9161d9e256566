"""A robot of each protocol that sends what a test has it send, and says what came back: numbers, or a refusal."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import numpy as np
from echo_server import encoded
from lerobot_pickles import pickled_observation, pickled_setup, timed_actions
from websockets.sync.client import connect

from vla_client.message_pack import pack, unpack
from vla_server_base.contract import Image
from vla_server_base.protocols import json_numpy
from vla_server_base.protocols.lerobot_protobuf import MESSAGES
from vla_server_base.testing.protocol_robots import bearer

TIMEOUT_S = 30


class Refused(Exception):
    """The server's refusal, in the protocol's own form."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a server listens, and the key that it is sent, if any."""

    url: str
    zmq: int
    lerobot: int
    api_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.api_key is None else bearer(self.api_key)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a robot sends at one step; what is None or not there is left out."""

    images: Mapping[str, Image]
    proprio: np.ndarray | None = None
    instruction: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class DoorRobot:
    """A robot at one door of a server; `act` returns the first action, or raises Refused."""

    def __init__(self, ports: Ports):
        self.ports, self.closing = ports, ExitStack()

    def begin(self) -> None:
        """Begin a new session where the protocol has a message for it."""

    def act(self, seen: Seen) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        self.closing.close()


class PredictRobot(DoorRobot):
    def act(self, seen: Seen) -> np.ndarray:
        body = {
            "session_id": "predict",
            "images": {name: encoded(image) for name, image in seen.images.items()},
            "proprio": None if seen.proprio is None else seen.proprio.tolist(),
            "instruction": seen.instruction,
        }
        given = {name: value for name, value in (body | dict(seen.more)).items() if value is not None}
        response = httpx.post(f"{self.ports.url}/predict", json=given, headers=self.ports.headers, timeout=TIMEOUT_S)
        check_http(response)
        return np.array(response.json()["actions"][0])


class ActRobot(DoorRobot):
    def act(self, seen: Seen) -> np.ndarray:
        content = json_numpy.dumps({"session_id": "act", **flat(seen, "state", "instruction")})
        response = httpx.post(f"{self.ports.url}/act", content=content, headers=self.ports.headers, timeout=TIMEOUT_S)
        check_http(response)
        return np.array(json_numpy.loads(response.text))


class OpenpiRobot(DoorRobot):
    def __init__(self, ports: Ports):
        super().__init__(ports)
        address = ports.url.replace("http", "ws", 1)
        self._socket = self.closing.enter_context(connect(address, additional_headers=ports.headers))
        self.greeting = unpack(self._socket.recv(TIMEOUT_S))

    def act(self, seen: Seen) -> np.ndarray:
        self._socket.send(pack(flat(seen, "observation/state", "prompt")))
        reply = self._socket.recv(TIMEOUT_S)
        if isinstance(reply, str):
            raise Refused(reply)
        return unpack(reply)["actions"][0]


class VlaEvalRobot(DoorRobot):
    def __init__(self, ports: Ports):
        super().__init__(ports)
        address = ports.url.replace("http", "ws", 1) + "/vla-eval"
        self._socket = self.closing.enter_context(connect(address, additional_headers=ports.headers))

    def act(self, seen: Seen) -> np.ndarray:
        payload = {"images": dict(seen.images), **flat(seen, "states", "task_description", images=False)}
        self._socket.send(pack({"type": "observation", "payload": payload, "seq": 1, "timestamp": 0.0}))
        reply = unpack(self._socket.recv(TIMEOUT_S))
        if reply["type"] == "error":
            raise Refused(reply["payload"]["error"])
        return np.asarray(reply["payload"]["actions"])


class Gr00tRobot(DoorRobot):
    def __init__(self, ports: Ports):
        import zmq

        super().__init__(ports)
        context = zmq.Context()
        self.closing.callback(context.destroy)
        self._socket = context.socket(zmq.REQ)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, 1000 * TIMEOUT_S)
        self._socket.connect(f"tcp://127.0.0.1:{ports.zmq}")

    def act(self, seen: Seen) -> np.ndarray:
        observation: dict[str, Any] = {"video": {name: image[None, None] for name, image in seen.images.items()}}
        if seen.proprio is not None:
            observation["state"] = {"joints": seen.proprio[None, None]}
        if seen.instruction is not None:
            observation["language"] = {"task": [[seen.instruction]]}
        token = {} if self.ports.api_key is None else {"api_token": self.ports.api_key}
        self._socket.send(pack({"endpoint": "get_action", "data": {"observation": observation}, **token}))
        reply = unpack(self._socket.recv())
        if "error" in reply:
            raise Refused(reply["error"])
        return np.array([chunk[0, 0, 0] for chunk in reply[0].values()])


class LerobotRobot(DoorRobot):
    def __init__(self, ports: Ports):
        super().__init__(ports)
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = self.closing.enter_context(grpc.insecure_channel(f"127.0.0.1:{ports.lerobot}", options))
        self._metadata = tuple((name.lower(), value) for name, value in ports.headers.items())
        self.begin()
        setup = pickled_setup(lerobot_features={}, rename_map={})
        self._call("SendPolicyInstructions", MESSAGES["PolicySetup"](data=setup).SerializeToString())

    def begin(self) -> None:
        self._timestep = 0
        self._call("Ready")

    def act(self, seen: Seen) -> np.ndarray:
        numbers = [] if seen.proprio is None else seen.proprio.tolist()
        observation: dict[str, Any] = {f"joint_{number}.pos": value for number, value in enumerate(numbers)}
        observation |= seen.images
        if seen.instruction is not None:
            observation["task"] = seen.instruction
        pickled = pickled_observation(observation, timestep=self._timestep, must_go=True)
        whole = MESSAGES["Observation"](transfer_state=3, data=pickled).SerializeToString()
        try:
            send = self._channel.stream_unary("/transport.AsyncInference/SendObservations")
            send(iter([whole]), timeout=TIMEOUT_S, metadata=self._metadata)
            actions = timed_actions(MESSAGES["Actions"].FromString(self._call("GetActions")).data)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise
            raise Refused(error.details()) from error
        self._timestep += 1
        return np.array(actions[0].action)

    def _call(self, name: str, message: bytes = b"") -> bytes:
        call = self._channel.unary_unary(f"/transport.AsyncInference/{name}")
        return call(message, timeout=TIMEOUT_S, metadata=self._metadata)


ROBOTS = {
    "predict": PredictRobot,
    "act": ActRobot,
    "openpi": OpenpiRobot,
    "vla-eval": VlaEvalRobot,
    "gr00t": Gr00tRobot,
    "lerobot": LerobotRobot,
}


def check_http(response: httpx.Response) -> None:
    if response.status_code != 200:
        assert response.status_code in (422, 429), response.text
        raise Refused(response.text)


def flat(seen: Seen, state: str, instruction: str, *, images: bool = True) -> dict[str, Any]:
    values: dict[str, Any] = dict(seen.images) if images else {}
    values |= {} if seen.proprio is None else {state: seen.proprio}
    return values | ({} if seen.instruction is None else {instruction: seen.instruction}) | dict(seen.more)
