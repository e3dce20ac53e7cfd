"""`python -m cheapdeep_ops.testing`: run both simulators in their own process."""

import argparse

from cheapdeep_ops.testing.serving import serve


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m cheapdeep_ops.testing", description=__doc__)
    parser.add_argument("--anthropic-port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--slack-port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other confidences and answers")
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")
    options = parser.parse_args(argv)
    serve(
        anthropic_port=options.anthropic_port,
        slack_port=options.slack_port,
        host=options.host,
        seed=options.seed,
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
