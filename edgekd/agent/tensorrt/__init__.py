"""TensorRT engines, built on the device they run on; versions 8.5 to 11 by what each one offers.

``spec`` says what is wanted, ``probe`` finds what is there, ``builder`` makes the engine,
``inspector`` reads which precision it has, ``cache`` keeps it beside its key, ``engine`` runs it.
TensorRT is imported in child processes of the agent only, and never before CUDA was found to work:
without a GPU its libraries end the process.
"""
