"""`python -m app` does what `bulkhead` does."""

from app.cli import main

if __name__ == "__main__":
    main()
