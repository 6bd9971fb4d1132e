"""The paper's argument, measured: sweeps and answers (`study`), claims with verdicts (`claims`), and the page (`page`)."""
