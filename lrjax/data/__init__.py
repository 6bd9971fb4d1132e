"""What models see: scenes, which labels and positions are held out, the finite set of the paper, tasks."""
