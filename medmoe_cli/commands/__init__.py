"""One file per verb: parse, call one workflow, render. No computation."""
