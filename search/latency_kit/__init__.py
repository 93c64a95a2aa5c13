"""Latencies of another device, such as a phone: a kit of files is measured there, and its times become a latency table.

`kit` writes the kit, `measure` is the script that runs on the device, `times` reads what it wrote and calibrates the sums.
"""
