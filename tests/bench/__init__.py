r"""The benchmark: `make bench`, every goal of speed against what it is measured by.

::

    make bench                                   all groups, under five minutes
    make bench ARGS=--quick                      a look, under a minute
    make bench ARGS="--only a,b"                 some groups
    make bench ARGS=--long                       up to a million entries
    make bench ARGS=--gate                       exit status 1 where a goal is missed

It prints a table and writes ``bench.json``, a list of ``{"name", "ours", "peer",
"unit", "ratio", "target", "gate", "ok"}``: `gate` is ``goal`` (`ok` says whether it is
met), ``info`` (`ok` is null unless there is a target), or ``skipped``.

Groups: a requests and streams, b appends, c proofs, d checks, e sizes, f start-up, g
model protocols, h privacy. What is compared is measured interleaved, in short rounds,
in one run; figures are medians. Absolute figures depend on the machine and on who else
uses it: trust ratios.

Peers are optional and stay out of the project's environment. With the two lines::

    .venv/bin/python -m pip install --no-deps --require-hashes \
        --target .venv/bench-peers -r tests/bench/requirements-peers.txt
    make bench

they are found, or in another directory by ``--peers``. What is not installed is listed
as such, never dropped.
"""
