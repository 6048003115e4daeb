"""TorchX components: the commands of this package as jobs on a laptop, Slurm, Kubernetes or whatever TorchX knows."""
