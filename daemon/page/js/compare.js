// Two sides of runs beside each other: what `scalectl compare --json` says.

function showComparison() {}
