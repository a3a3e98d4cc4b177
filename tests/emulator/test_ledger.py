from __future__ import annotations

from emulator.asking import create, created, service_of

from ruxa_async.emulator import Ledger, Purchase


def _purchase(task_id: str, **given: object) -> Purchase:
    return Purchase(task_id=task_id, model="m", input=given, credits=2.5, at=0.0)


def test_purchases_are_counted_and_paid() -> None:
    ledger = Ledger()
    ledger.record(_purchase("a", prompt="x"))
    ledger.record(_purchase("b", prompt="y"))
    assert (ledger.charged, ledger.credits_spent, ledger.duplicates()) == (2, 5.0, [])


def test_the_order_of_fields_does_not_hide_a_duplicate() -> None:
    ledger = Ledger()
    first, second = _purchase("a", prompt="x", size="1:1"), _purchase("c", size="1:1", prompt="x")
    for purchase in (first, _purchase("b", prompt="x"), second):
        ledger.record(purchase)
    assert ledger.duplicates() == [(first, second)]


def test_purchases_that_nobody_knows_are_missing() -> None:
    ledger = Ledger()
    for name in "abc":
        ledger.record(_purchase(name))
    assert [purchase.task_id for purchase in ledger.missing(["a", "c"])] == ["b"]


def test_the_service_writes_down_what_was_bought_when_and_for_how_much() -> None:
    service = service_of(credits=20)
    task_id = created(service, 4.0, "a fox", "google/nano-banana-pro", resolution="2k")
    assert service.ledger.entries == [
        Purchase(
            task_id=task_id,
            model="google/nano-banana-pro",
            input={"prompt": "a fox", "resolution": "2k"},
            credits=8,
            at=4.0,
        )
    ]
    assert service.credits_left == 12
    assert repr(service) == "<Service: 1 tasks charged, 8 credits spent>"


def test_thirty_thousand_tasks_are_counted_as_they_end() -> None:
    service = service_of()
    for place in range(30_000):
        create(service, place * 0.001, f"prompt {place}")
    # Tasks take 10 s, so those of the last 10 s run, 1,000 a second; the one that ends now does not.
    assert service.running(29.999) in (9_999, 10_000)
    assert service.running(39.9995) == 0
    assert service.ledger.charged == 30_000
    assert service.ledger.duplicates() == []
