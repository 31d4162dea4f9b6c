"""What `make demo` made, told: `python -m stages.common.chain results|report FOLDER -o FILE`."""

import argparse
import sys
from pathlib import Path

from model.errors import Nano2Error
from stages.common.chain.artifacts import Chain
from stages.common.chain.figures import write_demo_result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stages.common.chain", description=__doc__)
    parser.add_argument("what", choices=("results", "report"))
    parser.add_argument("folder", type=Path, help="the chain's artifacts")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    chain = Chain(options.folder)
    try:
        if options.what == "results":
            write_demo_result(chain, options.out)
        else:
            from stages.common.chain.report import (
                write_chain_report,
            )  # it draws, which takes a second to load

            write_chain_report(
                chain,
                options.out,
                comparison=options.folder / "comparison.json",
                answer=options.folder / "answer.json",
            )
    except Nano2Error as error:
        print(f"error: {error}\n  next:  {error.remedy}", file=sys.stderr)
        return error.exit_code
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
