"""The circuit breaker, by a clock that the test moves."""

from service.context.breaker import CircuitBreaker


def test_the_breaker_lets_one_probe_through_at_a_time() -> None:
    now = 0.0
    breaker = CircuitBreaker(failures=2, reset_s=10, clock=lambda: now)
    assert breaker.allows()
    assert not breaker.failed()
    assert breaker.allows()
    assert breaker.failed(), "the second failure opens it"
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
