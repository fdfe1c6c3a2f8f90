"""Videos in and out: reading, writing, and the pipeline that runs a detector over one.

Nothing here is imported by ``import msnet_d2``, so PyAV is needed only where videos are used.
"""
