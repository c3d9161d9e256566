"""How many steps pass until an answer comes."""

from vla_server_base.sessions.pace import NUM_LAST, Pace


def test_nothing_is_measured_before_an_answer():
    pace = Pace()
    pace.arrived(0, 0.0)
    assert pace.inference_delay(50.0) is None


def test_the_longest_of_the_last_answers_counts_rounded_up():
    pace = Pace()
    for latency_s in (0.9, *[0.02] * (NUM_LAST - 1), 0.05):
        pace.answered(latency_s)
    assert pace.inference_delay(50.0) == 3


def test_without_a_rate_the_steps_between_requests_give_it():
    pace = Pace()
    pace.answered(0.25)
    pace.arrived(3, 10.0)
    assert pace.inference_delay(None) is None
    pace.arrived(8, 10.5)
    assert pace.inference_delay(None) == 3


def test_another_episode_is_measured_anew_and_a_repeated_request_does_not_count():
    pace = Pace()
    pace.answered(0.2)
    pace.arrived(0, 10.0)
    pace.begin_episode()
    pace.arrived(0, 20.0)
    pace.arrived(0, 20.1)
    pace.arrived(10, 21.0)
    assert pace.inference_delay(None) == 2
