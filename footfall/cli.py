"""`footfall`: the command line. Each command parses, says what it does, and does it.

A command imports what it alone needs when it runs: the small ones answer at once.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from confluent_kafka import KafkaException
from rich.markup import escape
from rich.table import Table

from db.errors import TROUBLES, of_this_machine
from db.installation import NotMigratedError
from footfall.environment import Environment, EnvironmentMissingError, configure_logging
from footfall.keys import keys, merchants
from footfall.loop import keep_memory
from footfall.loop import run as in_loop
from footfall.port import PortTakenError
from footfall.told import Json, output, progress, tell
from stack.npm import PartMissingError

app = typer.Typer(
    help="Shop analytics that merchants can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(merchants, name="merchants")
app.add_typer(keys, name="keys")


def main() -> None:
    """Run the command line."""
    run_app(app)


def reprocess_main() -> None:
    """Run `reprocess`, the same as `footfall reprocess`."""
    run_app(_reprocess())


def _reprocess() -> typer.Typer:
    from footfall import verifying

    return verifying.app


def run_app(commands: typer.Typer) -> None:
    """Run commands; known troubles are one clear line and exit code 1."""
    keep_memory()
    try:
        commands()
    except (
        EnvironmentMissingError,
        NotMigratedError,
        PartMissingError,
        PortTakenError,
    ) as error:
        progress.print(f"[red]footfall:[/red] {error}", highlight=False)
    except TROUBLES as error:
        what = "this machine" if of_this_machine(error) else "a database does not answer or refuses"
        progress.print(f"[red]footfall:[/red] {what}: {error}", highlight=False)
    except KafkaException as error:
        progress.print(f"[red]footfall:[/red] the log does not answer or refuses: {error}")
    else:
        return
    sys.exit(1)


@app.command()
def stack(
    shards: Annotated[int, typer.Option(help="How many databases.")] = 1, as_json: Json = False
) -> None:
    """Start the embedded broker and database, print their addresses, run until stopped."""
    from stack.embedded import EmbeddedStack

    environment = Environment.read()
    stopped = _stop_signals()
    with EmbeddedStack(environment.data_dir, shards) as running:
        addresses = {
            "FOOTFALL_KAFKA_BOOTSTRAP": running.kafka_bootstrap,
            "FOOTFALL_SHARDS": " ".join(running.shards),
        }
        if as_json:
            print(json.dumps(addresses), flush=True)  # noqa: T201 - data for scripts
        else:
            for name, value in addresses.items():
                output.print(f"export {name}='{value}'", soft_wrap=True, highlight=False)
            progress.print("Running. Ctrl-C ends it.")
        stopped()


@app.command("migrate")
def migrate_command() -> None:
    """Bring topic and databases to today's schema. Running it again changes nothing."""
    from db.migrate import Migrated, migrate
    from footfall.topic import TopicError, ensure_topic

    environment = Environment.read()
    partitions = environment.partitions
    if environment.bootstrap:
        try:
            partitions = ensure_topic(
                environment.bootstrap, environment.topic, partitions, environment.kafka_options
            )
        except TopicError as error:
            raise EnvironmentMissingError(str(error)) from error
        progress.print(f"topic {environment.topic}: {partitions} partitions")
    else:
        progress.print(
            f"no FOOTFALL_KAFKA_BOOTSTRAP: the topic is left as it is, taken to have {partitions} "
            "partitions (FOOTFALL_PARTITIONS)"
        )

    def report(done: Migrated) -> None:
        progress.print(f"shard {done.shard}: {done.history} is at {done.revision}")

    try:
        migrate(
            environment.need_shards(),
            partitions,
            report,
            max_age_days=environment.max_age_days,
            visitor_hash_key=environment.visitor_hash_key,
        )
    except ValueError as error:
        raise EnvironmentMissingError(str(error)) from error


@app.command()
def ingest(
    telemetry_port: Annotated[
        int | None,
        typer.Option(help="Serve Prometheus telemetry on this port, once it ingests."),
    ] = None,
) -> None:
    """Read the topic into the shards until stopped. Several may run: they share the work."""
    from background.telemetry import serve_telemetry
    from ingester.pipeline import Pipeline

    configure_logging()
    environment = Environment.read()
    settings = environment.ingest_settings()
    port = telemetry_port or environment.telemetry_port

    async def run() -> None:
        def ready() -> None:
            if port is not None:  # not before: that it answers is how others know we are ready
                host = environment.telemetry_host
                serve_telemetry(port, host, lambda: pipeline.supervisor.health)
            print(f"ingesting {settings.topic}", flush=True)  # noqa: T201 - the ready line

        pipeline = Pipeline(settings, ready=ready)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, pipeline.stop)
        await pipeline.run()

    in_loop(run())


@app.command()
def serve(
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    telemetry_port: Annotated[
        int | None,
        typer.Option(help="Serve Prometheus telemetry of all workers on this port."),
    ] = None,
) -> None:
    """Serve the API until stopped."""
    from footfall.serve import serve as run

    environment = Environment.read()
    environment.api_settings()
    port = telemetry_port or environment.telemetry_port
    run(
        environment.api_host,
        environment.api_port,
        workers,
        environment.drain_seconds,
        (environment.telemetry_host, port) if port is not None else None,
    )


@app.command()
def load(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, or CSV with a mapping; plain, .gz or .zst.",
            exists=True,
            dir_okay=False,
        ),
    ],
    merchant: Annotated[
        int | None, typer.Option(help="Whose events a CSV file holds.", min=1)
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(help="How to read a CSV file: `onlineshop`, or a mapping's JSON file."),
    ] = None,
) -> None:
    """Write a file's events to the topic, one a line; nothing of a CSV file that has errors."""
    import zlib
    from gzip import BadGzipFile

    from backports.zstd import ZstdError
    from rich.markup import escape

    from footfall.mapping import MappingError, Source, find
    from footfall.topic import TopicWriter, messages_of
    from footfall.topic import load as load_messages

    if (merchant is None) != (mapping is None):
        raise typer.BadParameter("--merchant and --mapping go together: JSON lines need neither")
    environment = Environment.read()
    bootstrap = environment.need_bootstrap()
    messages = messages_of(file)
    if merchant is not None and mapping is not None:
        try:
            source = Source(file, find(mapping), merchant)
            with progress.status("checking …"):
                source.check()
        except MappingError as error:
            progress.print(f"[red]footfall:[/red] {escape(str(error))}", highlight=False)
            raise typer.Exit(1) from error
        messages = source.messages()
    writer = TopicWriter(bootstrap, environment.topic, environment.kafka_options)
    try:
        with progress.status("loading …") as status:
            count = load_messages(
                messages, writer, lambda so_far: status.update(f"loading … {so_far:,}")
            )
    except (EOFError, zlib.error, ZstdError, BadGzipFile) as error:
        writer.flush()
        progress.print(
            f"[red]footfall:[/red] {escape(str(file))} is damaged: {error}. "
            f"{writer.acknowledged} events before the damage are in the topic.",
            highlight=False,
        )
        raise typer.Exit(1) from error
    output.print(f"{count} events acknowledged", highlight=False)


@app.command()
def demo(
    events: Annotated[int, typer.Option(help="How many events of history to make.")] = 50_000,
    once: Annotated[
        bool, typer.Option("--once", help="Check what comes out against what went in, then end.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed makes the same shops.")] = 1,
) -> None:
    """The whole of Footfall on this machine: stack, simulated shops, ingester, API."""
    from footfall.demo import run_demo

    sys.exit(run_demo(events, once=once, seed=seed))


@app.command(
    "reprocess",
    help="Make history again from the log, while live events go on.",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def reprocess_command(context: typer.Context) -> None:
    """The same as the command `reprocess`, whose imports the others do without."""
    _reprocess()(context.args, prog_name="footfall reprocess")


@app.command(
    "shards",
    help="Where partitions live, and moving them.",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def shards_command(context: typer.Context) -> None:
    """`shards show|move`, whose imports the others do without."""
    from footfall.shards import app as commands

    commands(context.args, prog_name="footfall shards")


@app.command()
def archive(
    out: Annotated[Path, typer.Option(help="The folder of the archive.", file_okay=False)],
    start: Annotated[
        str | None, typer.Option("--from", help="First date or RFC 3339 instant, UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Where the window ends.")] = None,
    partition: Annotated[int | None, typer.Option(help="Only this partition.", min=0)] = None,
    offsets: Annotated[
        str | None,
        typer.Option(help="Offsets of the partition instead of a window.", metavar="FIRST:END"),
    ] = None,
    kind: Annotated[
        Literal["parquet", "jsonl"], typer.Option("--format", help="zstd in both.")
    ] = "parquet",
    verify: Annotated[
        bool, typer.Option("--verify", help="Hold the archive against its manifest and the log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write what the log holds of a window to files that outlive it, or verify such files."""
    from footfall import archiving
    from footfall.reprocess_world import asked_of

    if verify:
        if not archiving.verify(out, as_json=as_json):
            raise typer.Exit(1)
        return
    if offsets is not None:
        if partition is None or start is not None or end is not None:
            raise typer.BadParameter("--offsets needs --partition, and neither --from nor --to")
        first, _, last = offsets.partition(":")
        if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
            raise typer.BadParameter("--offsets is FIRST:END, half-open, as 0:100000")
        places = (int(first), int(last))
        archiving.write(out, None, partition, places, kind, as_json=as_json)
    elif start is None or end is None:
        raise typer.BadParameter("give --from and --to, or --partition and --offsets")
    else:
        window = asked_of(start, end, None, partition, None)
        archiving.write(out, window, partition, None, kind, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check every part, and say what to do where one fails. Exit code 0: all is in order; 1:
    something fails."""
    import dataclasses

    from footfall.doctor import examine

    findings = in_loop(examine(Environment.read()))
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in findings]))  # noqa: T201 - data
    else:
        table = Table("part", "state", "cause", "what to do")
        for each in findings:
            state = "[green]ok[/green]" if each.ok else "[red]failing[/red]"
            table.add_row(escape(each.part), state, escape(each.cause), escape(each.command))
        output.print(table)
    if not all(each.ok for each in findings):
        raise typer.Exit(1)


@app.command("size")
def size_command(
    events_per_day: Annotated[float, typer.Option(help="As 10e9.", min=1)],
    questions_per_day: Annotated[float, typer.Option(help="As 100e6.", min=0)] = 0,
    days: Annotated[int, typer.Option(help="How long raw events are kept.", min=1)] = 365,
    peak: Annotated[float, typer.Option(help="The busiest hour over the mean.", min=1)] = 2.0,
    shard_cores: Annotated[int, typer.Option(help="Of one database server.", min=1)] = 32,
    shard_disk_tb: Annotated[float, typer.Option(help="Of one database server.")] = 15,
    broker_disk_tb: Annotated[float, typer.Option(help="Of one broker.")] = 15,
    price_core: Annotated[float | None, typer.Option(help="Of a core, a month.")] = None,
    price_gb: Annotated[float | None, typer.Option(help="Of a gigabyte, a month.")] = None,
    as_json: Json = False,
) -> None:
    """How many machines a load needs, from what the benchmarks measured."""
    import dataclasses

    from footfall.size import Demand, Machines, figures, size

    needed = size(
        Demand(events_per_day, questions_per_day, days, peak),
        Machines(
            broker_disk_tb=broker_disk_tb,
            shard_cores=shard_cores,
            shard_disk_tb=shard_disk_tb,
            price_core=price_core,
            price_gb=price_gb,
        ),
        figures(),
    )
    told = dataclasses.asdict(needed)
    if not as_json:
        told = {
            name.replace("_", " "): f"{value:,.1f}" if isinstance(value, float) else value
            for name, value in told.items()
            if value is not None
        }
    tell(told, as_json=as_json)


def _stop_signals() -> Any:
    """Take SIGINT and SIGTERM from here on; the function returned waits for the first."""
    wanted = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    return lambda: signal.sigwait(wanted)
