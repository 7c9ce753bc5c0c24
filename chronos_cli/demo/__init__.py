"""The demo: the whole loop on one machine, with a real NAS, a real shim, real tokens and real processes."""
