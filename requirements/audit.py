"""Are there known vulnerabilities in the locked versions?

    make audit

Asks pip-audit, which asks a database on the network. Exit status 0: none is known; 1: some are; 3:
the database could not be asked, so nothing is known.
"""

import argparse
import json
import subprocess
import sys
import tempfile

from lock import HERE, LOCKS, parse

NOTHING_KNOWN = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--service", choices=("osv", "pypi"), default="osv", help="whom to ask (default: osv)"
    )
    service = parser.parse_args(argv).service
    pins = [pin for file in LOCKS for pin in parse((HERE / file).read_text(encoding="utf-8"))]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.writelines(f"{pin.name}=={pin.version}\n" for pin in _one_of_each(pins))
        wanted.flush()
        done = subprocess.run(
            [
                sys.executable, "-m", "pip_audit", "--requirement", wanted.name, "--no-deps",
                "--disable-pip", "--format", "json", "--progress-spinner", "off",
                "--vulnerability-service", service,
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(
            f"could not ask {service}, so nothing is known of the {len(pins)} locked versions.\n"
            f"pip-audit says: {said[:300]}",
            file=sys.stderr,
        )
        return NOTHING_KNOWN
    return report(answers)


def report(answers: list[dict]) -> int:
    """Prints what is known; 1 if that is anything."""
    found = [(each, hole) for each in answers for hole in each.get("vulns", [])]
    for each, hole in found:
        mended = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {hole['id']}, mended in {mended}")
    skipped = [each["name"] for each in answers if "skip_reason" in each]
    if skipped:
        print(f"not looked at: {', '.join(skipped)}")
    print(f"{len(found)} known vulnerabilities in {len(answers) - len(skipped)} packages")
    return 1 if found else 0


def _one_of_each(pins):
    """pip-audit takes no name twice, so of two versions for two Pythons it gets the newer one."""
    return {pin.name: pin for pin in pins}.values()


if __name__ == "__main__":
    sys.exit(main())
