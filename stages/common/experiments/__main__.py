"""`python -m stages.common.experiments recipes/experiments/NAME.yaml -o docs/results/NAME.json`"""

import argparse
import sys
from pathlib import Path

from model.errors import InterruptedRunError, Nano2Error
from stages.common.experiments.running import make_runs
from stages.common.experiments.spec import read_experiment
from stages.common.experiments.tables import device_of, outcomes, rows_of
from stages.common.results import write_result, write_run

_COMMAND = ("python", "-m", "stages.common.experiments")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run an experiment and write its result file.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts/experiments"))
    parser.add_argument("--jobs", type=int, help="runs at a time, instead of the recipe's")
    parser.add_argument(
        "--as-recorded",
        action="store_true",
        help="leave finished runs as their nano2.json records them: what they were made from need not be here, nor their "
        "files where no other run needs them",
    )
    parser.add_argument(
        "--add", action="store_true", help="keep the figures of other experiments that the result file has"
    )
    arguments = parser.parse_args()
    try:
        experiment = read_experiment(arguments.recipe)
        folder = arguments.artifacts / experiment.name
        jobs = arguments.jobs or experiment.jobs
        make_runs(
            experiment,
            folder,
            jobs,
            lambda line: print(line, file=sys.stderr, flush=True),
            as_recorded=arguments.as_recorded,
        )
        rows = rows_of(experiment, folder)
        metrics, device = outcomes(experiment.claims, rows), device_of(experiment, folder)
        command = [*_COMMAND, str(arguments.recipe), "-o", str(arguments.out)]
        if arguments.add:
            write_run(
                arguments.out,
                experiment.name,
                command=[*command, "--add"],
                metrics=metrics,
                rows=rows,
                device=device,
            )
        else:
            write_result(arguments.out, command=command, metrics=metrics, rows=rows, device=device)
    except Nano2Error as error:
        print(f"error: {error}\n  next:  {error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # it reaches the runs, too, which save their states
        print("interrupted\n  next:  run the same command to continue", file=sys.stderr)
        return InterruptedRunError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
