#!/bin/bash
# Runs all tests, then lists what could not run here and why, and the counts.
#
#   deploy/test.sh [arguments of cargo test or cargo nextest run]
#
# A test that finds that it cannot run prints `SKIPPED: name: reason` and returns. Runners take
# that for a pass and hide the line, so this looks for it: a skipped test is not a passed one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

if cargo nextest --version >/dev/null 2>&1; then
	# nextest does not run the examples in the documentation.
	cargo test --doc --quiet || status=$?
	# Its own store, in the workspace wherever cargo's target directory is.
	results=target/nextest/default/junit.xml
	rm -f "$results"
	cargo nextest run --no-fail-fast "$@" || status=$?
else
	echo "cargo-nextest is not installed: using cargo test" >&2
	results=$log
	cargo test --no-fail-fast "$@" -- --show-output 2>&1 | tee "$log" || status=$?
fi

python3 - "$results" <<'PYTHON' || status=1
import re, sys, xml.etree.ElementTree as xml

try:
    text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
except FileNotFoundError:
    sys.exit("no test was run")
passed, failed, skipped, reasons = 0, 0, 0, []
line = re.compile(r"^SKIPPED: .*", re.M)
if text.startswith("<?xml"):
    for case in xml.fromstring(text).iter("testcase"):
        output = "".join(part.text or "" for part in case if part.tag.startswith("system-"))
        found = line.findall(output)
        reasons += found
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif found:
            skipped += 1
        else:
            passed += 1
else:
    for good, bad in re.findall(r"^test result: .*?(\d+) passed; (\d+) failed", text, re.M):
        passed, failed = passed + int(good), failed + int(bad)
    # Each test's output stands below a line `---- name stdout ----`.
    for part in re.split(r"^---- .* ----$", text, flags=re.M)[1:]:
        found = line.findall(part.split("\nsuccesses:\n")[0].split("\nfailures:\n")[0])
        reasons += found
        skipped += bool(found)
    passed -= skipped
if reasons:
    print(f"\nNot run here ({len(reasons)}):")
    for reason in sorted(set(reasons)):
        print(" ", reason.removeprefix("SKIPPED: "))
print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
PYTHON
exit $status
