# SPDX-License-Identifier: BSD-2-Clause
"""Verified I/O in the background of a test."""

import threading


class Load:
    """with Load(disk, front): ... Verified I/O in a thread, for as long as the block runs. The image is compared after it."""

    def __init__(self, disk, front, **options):
        self.disk, self.front, self.options = disk, front, options
        self.wrong, self.rounds, self.over = None, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.over:
                self.front.exercise(self.disk.contents, requests=500, seed=self.rounds + 1, **self.options)
                self.rounds += 1
        except Exception as e:  # noqa: BLE001 - told when the block ends
            self.wrong = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over = True
        self.thread.join(60)
        if kind is None:
            assert self.wrong is None, self.wrong
            assert self.rounds > 0, "there was no I/O"
            self.disk.check_image()
