"""The paper's argument, measured: sweeps and answers (`study`), claims (`claims`), verdicts (`verdicts`) and the page (`page`)."""
