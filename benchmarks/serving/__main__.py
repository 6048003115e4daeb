"""The serving benchmark as a command: `python -m benchmarks.serving`."""

from benchmarks.serving.command import main

if __name__ == "__main__":
    main()
