"""Do the tests notice faults? Faults are put into the library, one at a time, and the tests run."""
