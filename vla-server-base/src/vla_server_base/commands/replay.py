"""`replay`: a recording's steps once more, each answer compared with the recorded one."""

import asyncio
import fnmatch
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from vla_server_base.commands.options.replay import ReplaySessions
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.episodes import PolicyServer
from vla_server_base.errors import RequestError
from vla_server_base.recordings.comparison import Difference, build_differences, compare
from vla_server_base.recordings.messages import REPLAY_PREFIX
from vla_server_base.recordings.reader import RecordedTurn, read_turns, recording_files
from vla_server_base.recordings.replay import Replay


@dataclass
class ReplayReport:
    """What came of a replay."""

    num_same: int = 0
    num_other: int = 0
    sessions: set[str] = field(default_factory=set)
    largest: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    builds: set[str] = field(default_factory=set)

    def add(self, turn: RecordedTurn, differences: list[Difference]) -> None:
        """Count a step that was answered."""
        self.sessions.add(turn.session_id)
        self.num_other += bool(differences)
        self.num_same += not differences
        self.largest = max([self.largest, *(each.size for each in differences)])
        self.differences += differences


def run(options: ReplaySessions, _program: PolicyProgram[Any]) -> None:
    """Print the differences and a summary."""
    patterns = options.sessions.split()
    turns = read_turns(recording_files(options.files))
    chosen = (
        turn
        for turn in turns
        if any(fnmatch.fnmatchcase(turn.session_id, each) for each in patterns)
        and not turn.session_id.rpartition("/")[2].startswith(REPLAY_PREFIX)
    )
    report, num_left_out = asyncio.run(_replay(options, islice(chosen, options.max_turns)))
    _print(report, num_left_out, options.show)
    if report.num_other or num_left_out or not report.num_same:
        sys.exit(1)


async def _replay(options: ReplaySessions, turns: Iterable[RecordedTurn]) -> tuple[ReplayReport, int]:
    report = ReplayReport()
    async with PolicyServer(options.url) as server:
        present = await server.description()
        replay = Replay(model_id=present["model"], cache_dir=options.server.cache_dir, key_name=options.key_name)
        recorded: Mapping[str, Any] = {}
        for turn in turns:
            if turn.server is not recorded:
                recorded = turn.server
                report.builds.update(build_differences(recorded, present))
            body = replay.request(turn)
            if body is None:
                continue
            try:
                reply = await server.predict(body)
            except RequestError as error:
                report.refusals.append(f"session {turn.session_id} turn {turn.message.turn}: {error.as_sentence()}")
                replay.break_off(turn)
            else:
                report.add(turn, list(compare(turn, reply, options.tolerance)))
        for session_id in replay.session_ids:
            await server.end_session(session_id)
    return report, replay.num_left_out


def _print(report: ReplayReport, num_left_out: int, num_shown: int) -> None:
    lines = [*report.refusals, *map(str, report.differences)]
    for line in lines[:num_shown]:
        print(line)
    if len(lines) > num_shown:
        print(f"and {len(lines) - num_shown} more; --show prints them")
    print(f"build        {'the same' if not report.builds else 'another one'}")
    for line in sorted(report.builds):
        print(f"             {line}")
    print(f"sessions     {len(report.sessions)}")
    print(f"turns        {report.num_same + report.num_other}, of which {report.num_same} are the same")
    if num_left_out:
        print(f"left out     {num_left_out}, as the server lacks their session's state; docs/recording.md says why")
    print(f"difference   {report.largest:g} at most")
