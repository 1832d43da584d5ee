# The software environment of a job: sourced by its script.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export PYTHONUNBUFFERED=1
if [ -d /shared/envs/torch ]; then
  PATH=$(readlink -f /shared/envs/torch)/bin:$PATH
  export PATH
fi
