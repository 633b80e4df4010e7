"""Runs all cases of the Autobahn|Testsuite's fuzzing client against a server that echoes.

PyPI's kosoku brings the suite's case files and runs them on Python 3. A case passes if its
behaviour and its closing behaviour are each OK or INFORMATIONAL: NON-STRICT is not enough. Those
that do not pass are told on stderr; the last line of stdout is "PASSED FAILED".
"""

import argparse
import asyncio
import dataclasses
import datetime
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version

import kosoku
import kosoku.cases
from kosoku._caseindex import category_metadata

CASES = 517
GOOD = ("OK", "INFORMATIONAL")


@dataclasses.dataclass
class Case:
    """What is kept of a kosoku.CaseResult, which cannot go from process to process."""

    id: str
    behavior: str
    behavior_close: str
    said: str
    expectation: str
    close_code: int | None
    extensions: str

    @property
    def passed(self):
        return self.behavior in GOOD and self.behavior_close in GOOD

    @property
    def group(self):
        """1.2 of 1.2.3; 2 of 2.3, as the suite's own index has it."""
        return self.id.rpartition(".")[0]

    @classmethod
    def of(cls, result):
        return cls(
            id=result.case_id,
            behavior=result.behavior.value,
            behavior_close=result.behavior_close.value,
            said=f"{result.result} {result.result_close}",
            expectation=" ".join(result.expectation.split()),
            close_code=result.remote_close_code,
            extensions=agreed(result.http_response),
        )


def agreed(response):
    """The Sec-WebSocket-Extensions of the server's answer."""
    for line in response.splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "sec-websocket-extensions":
            return value.strip()
    return ""


def take_uncompressed_messages():
    """12 and 13 hash what comes back, which kosoku gives them as str if the server chose to send it
    uncompressed (RFC 7692, 6: it may). Its characters are the bytes."""
    import case12_x_x

    def as_bytes(method):
        def on_message(self, message, binary):
            if isinstance(message, str):
                message = message.encode("latin-1")
            return method(self, message, binary)

        return on_message

    for case in case12_x_x.Case12_X_X + case12_x_x.Case13_X_X:
        case.onMessage = as_bytes(case.onMessage)


def run(address, selection, at_once):
    """Runs the cases with the ids or globs of `selection`, so many at once."""

    async def results():
        try:
            return await kosoku.run_fuzzingclient(address, selection, concurrency=at_once)
        except kosoku.FailureError as failure:
            return failure.results

    return [Case.of(result) for result in asyncio.run(results())]


def run_all(address):
    """The cases that give a server seconds have the machine for themselves, then come those that
    take long, longest first."""
    cases = run(address, [f"{major}.*" for major in (1, 2, 3, 4, 5, 6, 7, 10)], 4)
    cases += run(address, ["9.*"], 2)
    long_ones = [f"12.{n}.*" for n in (2, 5, 3, 4, 1)] + [f"13.{n}.*" for n in range(1, 8)]
    with ProcessPoolExecutor(
        max_workers=os.cpu_count(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=take_uncompressed_messages,
    ) as pool:
        for some in [pool.submit(run, address, [glob], 2) for glob in long_ones]:
            cases += some.result()
    return sorted(cases, key=lambda case: [int(part) for part in case.id.split(".")])


def complain(case):
    print(
        f"{case.id}: {case.behavior}, close {case.behavior_close}: {case.said}\n"
        f"    server's close code {case.close_code}; expected: {case.expectation}",
        file=sys.stderr,
    )


def titles():
    majors, minors = category_metadata(kosoku.cases.GENERATORS)
    return {**majors, **{group: title.split(" / ")[0] for group, title in minors.items()}}


def report(cases, server):
    """The page docs/autobahn.md."""
    groups = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    named = titles()

    def count(some, good):
        return sum(1 for case in some if good(case)) or ""

    def row(name, title, some):
        ok = count(some, lambda case: case.passed and case.behavior == "OK")
        informational = count(some, lambda case: case.passed and case.behavior != "OK")
        bad = count(some, lambda case: not case.passed)
        return f"| {name} | {title} | {len(some)} | {ok} | {informational} | {bad} |"

    lines = [
        "# Autobahn|Testsuite",
        "",
        "<!-- Written by `scripts/conformance --report`. -->",
        "",
        "All cases of the suite's fuzzing client, those of sizes and speed (9) and of",
        "permessage-deflate (12, 13) among them, against the location of",
        "[t/autobahn/nginx.conf](../t/autobahn/nginx.conf). `scripts/conformance` repeats it.",
        "",
        "A case is counted as OK if it behaved and closed as the suite demands. NON-STRICT, which",
        "the suite lets pass, would be counted as failed: invalid UTF-8 must be refused at its",
        "first bad byte.",
        "",
        f"- {datetime.date.today()}, {server}",
        f"- the suite's cases as run by kosoku {version('kosoku')},",
        f"  Python {platform.python_version()}",
        "",
        "| group | what | cases | OK | informational | failed |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(row(group, named[group], some) for group, some in groups.items()),
        row("**all**", "", cases),
        "",
        "Informational are cases that RFC 6455 leaves open:",
        "",
        "| case | what the suite says | it closed with |",
        "| --- | --- | --- |",
        *(
            f"| {case.id} | {case.expectation} | {case.close_code or 'no code'} |"
            for case in cases
            if case.behavior == "INFORMATIONAL"
        ),
        "",
        "What was agreed about permessage-deflate. The suite's client always offers",
        "`client_no_context_takeover`, so that these cases do not try a takeover towards the",
        "server: the tests of `crates/proto` do.",
        "",
        "| groups | answer |",
        "| --- | --- |",
    ]
    answers = {}
    for group, some in groups.items():
        for extensions in sorted({case.extensions for case in some} - {""}):
            answers.setdefault(extensions, []).append(group)
    lines += [f"| {', '.join(some)} | `{answer}` |" for answer, some in answers.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="ws://HOST:PORT")
    parser.add_argument("--report", metavar="FILE", help="write the results as Markdown")
    parser.add_argument("--server", default="", help="its name and version, for the report")
    arguments = parser.parse_args()

    cases = run_all(arguments.address)
    bad = [case for case in cases if not case.passed]
    for case in bad:
        complain(case)
    if len(cases) != CASES:
        print(f"{len(cases)} cases ran instead of {CASES}", file=sys.stderr)
    if arguments.report:
        with open(arguments.report, "w", encoding="utf-8") as file:
            file.write(report(cases, arguments.server))
    print(len(cases) - len(bad), len(bad) + abs(CASES - len(cases)), flush=True)
    # kosoku's threads may abort an interpreter that ends in the ordinary way.
    os._exit(0)


if __name__ == "__main__":
    main()
