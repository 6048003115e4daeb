"""Files as an attacker or a broken disk leaves them: corpora as data, with one driver each, and bounded fuzzers."""
