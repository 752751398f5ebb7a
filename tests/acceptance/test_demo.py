"""The main job in one command."""

from tests.processes import footfall


def test_the_demo_counts_what_it_made_and_ends_well() -> None:
    with footfall("demo", "--events", "8000", "--once", environment={}) as process:
        code = process.end(240)
    assert code == 0, "\n".join(process.lines)
    assert any("0 differ" in line for line in process.lines), "\n".join(process.lines)
