"""The circuit breaker, by a clock that the test moves."""

from service.context.breaker import CircuitBreaker


def test_it_opens_at_a_share_of_the_last_calls() -> None:
    breaker = CircuitBreaker(calls=4, error_rate=0.5, reset_s=10, clock=lambda: 0.0)
    assert not breaker.failed()
    for _ in range(3):
        breaker.succeeded()
    assert not breaker.failed(), "the first failure is five calls ago"
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.failed(), "failures need not be in a row"
    assert not breaker.allows()


def test_it_lets_one_probe_through_at_a_time() -> None:
    now = 0.0
    breaker = CircuitBreaker(calls=3, error_rate=0.6, reset_s=10, clock=lambda: now)
    assert breaker.allows()
    assert not breaker.failed()
    assert breaker.allows()
    assert breaker.failed(), "the second failure opens it"
    assert not breaker.failed(), "once"
    assert not breaker.allows()
    now = 10.0
    assert breaker.allows(), "the probe"
    assert not breaker.allows(), "only one"
    breaker.failed()
    now = 19.0
    assert not breaker.allows()
    now = 20.0
    assert breaker.allows()
    assert breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
    assert not breaker.failed(), "failures are counted anew"
    assert breaker.allows()
