"""Drive a WidowX 250 with two cameras at 5 Hz: python examples/widowx_control_loop.py "pick up the red cube".

Poses are of the gripper's tip in the frame of the arm's base: x forward, y left, z up, metres. An action moves it by
action[:3] [m], turns it by roll, pitch, yaw about the base's axes [rad], and opens (1) or closes (0) the gripper.
"""

import sys
import time

import numpy as np

from vla_client import Policy, PolicyError, Unreachable

URL, RATE_HZ, DEADLINE_MS = "ws://127.0.0.1:8002", 5, 150  # docs/performance.md: which rate your server keeps
LOWEST, HIGHEST = np.array([0.15, -0.20, 0.015]), np.array([0.40, 0.20, 0.25])  # where the tip may be sent
MAX_STEP_M, MAX_TURN_RAD = 0.04, 0.2  # in one step: 0.2 m/s and 1 rad/s


def next_goal(goal, action):
    """Return the pose (4x4) that an action leads to from the last goal, as far as the limits allow."""
    step = np.clip(goal[:3, 3] + action[:3], LOWEST, HIGHEST) - goal[:3, 3]
    roll, pitch, yaw = action[3:6] * min(1.0, MAX_TURN_RAD / max(np.abs(action[3:6]).sum(), 1e-9))
    after = goal.copy()
    after[:3, 3] += step * min(1.0, MAX_STEP_M / max(np.linalg.norm(step), 1e-9))
    after[:3, :3] = about(2, yaw) @ about(1, pitch) @ about(0, roll) @ goal[:3, :3]
    return after


def about(axis, angle):
    """Return the rotation (3x3) about one of the base's axes."""
    return np.roll([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], axis, (0, 1))


def run(arm, policy, instruction, num_steps, clock=time):
    """Act at RATE_HZ. Without an action in time, and at the end, the arm stays where it was last sent."""
    policy.reset()
    due = clock.monotonic()
    try:
        for _ in range(num_steps):
            images, seen_at = arm.see()
            try:
                action = policy.act(images, instruction, obs_time=seen_at)
            except (PolicyError, Unreachable) as error:  # DeadlineExceeded is a PolicyError
                action = np.full(7, np.nan)
                print(error)
            if np.isfinite(action).all():
                arm.go(next_goal(arm.goal(), action), is_open=action[6] > 0.5)
            else:
                arm.hold()
            due = (due if clock.monotonic() <= due + 1 / RATE_HZ else clock.monotonic()) + 1 / RATE_HZ  # no catching up
            clock.sleep(max(0.0, due - clock.monotonic()))
    finally:  # Ctrl-C too, and a camera or a session that is lost
        arm.hold()


if __name__ == "__main__":
    from interbotix_arm import WidowX

    with Policy(URL, deadline_ms=DEADLINE_MS) as policy:
        run(WidowX(step_s=1 / RATE_HZ), policy, " ".join(sys.argv[1:]), num_steps=200)
