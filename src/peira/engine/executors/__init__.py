"""Where trials run: in this process, in worker processes, on a ray or SLURM cluster."""
