# SPDX-License-Identifier: BSD-2-Clause
"""The wrong variants of what survives a kill, and the tests that catch each."""

import collections

# edits: (file, text that is there once, text in its place)
Planted = collections.namedtuple("Planted", "name edits caught_by")

JOURNAL, RECOVER = "src/blkif/journal.c", "src/blkif/journal_recover.c"
KILLS, QUEUE = "unit blkif_journal_kills", "unit blkif_queue_recover"
TAKEN = "    atomic_store_explicit(&entry->state, SLAB_TAKEN, memory_order_release);\n"
REQ_CONS = "    atomic_store_explicit(&journal->queue->req_cons, seq + request->slots, memory_order_release);\n"
NAMES = """    for (uint32_t i = 0; i < count; i++)
        for (uint32_t slot = 0; slot < journal->entries[tags[i]].slots; slot++)
            queue->publishing[end++ & (ring->count - 1)] = (uint16_t)(tags[i] + 1);
"""
COUNTS = """    for (uint32_t i = 0; i < count; i++)
        end += journal->entries[tags[i]].slots;
"""
FREES = """    for (uint32_t i = 0; i < count; i++)
        free_entry(journal, tags[i]);
"""
RSP_PROD = "    atomic_store_explicit(&queue->rsp_prod, end, memory_order_release);\n"
RING = "    ring_publish(ring);\n"

PLANTED = (
    Planted("req-cons-not-raised",
            [(RECOVER, "        survey->req_cons = header + slots;\n", "")],
            [KILLS]),
    Planted("req-cons-before-the-entry",
            [(JOURNAL, TAKEN + REQ_CONS, REQ_CONS + TAKEN)],
            [KILLS]),
    Planted("rsp-prod-before-entries-are-free",
            [(JOURNAL, FREES + RSP_PROD, RSP_PROD + FREES)],
            [KILLS]),
    Planted("rsp-prod-before-entries-are-retired",
            [(RECOVER, "    for (uint32_t tag = 0; tag < journal->capacity; tag++)\n        if (survey->published[tag])\n",
              "    atomic_store_explicit(&journal->queue->rsp_prod, survey->rsp_prod, memory_order_release);\n"
              "    for (uint32_t tag = 0; tag < journal->capacity; tag++)\n        if (survey->published[tag])\n")],
            [KILLS]),
    Planted("recovery-from-the-ring-alone",
            [("src/worker/vbd_queue.c", "        .recover = wanted->recover,\n", "        .recover = false,\n")],
            ["bed recovery worker-uring-persistent"]),
    Planted("no-publishing",
            [(JOURNAL, NAMES, COUNTS)],
            [KILLS]),
    Planted("publishing-after-rsp-prod",
            [(JOURNAL, NAMES, ""), (JOURNAL, RING, RING + NAMES)],
            [KILLS]),
    Planted("not-started-before-it-is-submitted",
            [(JOURNAL, "    atomic_store_explicit(&journal->entries[tag].state, SLAB_STARTED, memory_order_release);\n",
              "    (void)journal;\n    (void)tag;\n")],
            [KILLS, QUEUE]),
    Planted("no-started-first",
            [(RECOVER, "state == SLAB_STARTED ? 1 : 2", "1")],
            [KILLS]),
    Planted("replay-without-range-locks",
            [("src/blkif/queue_recover.c", """    if (!overlap_acquire(queue->overlaps, &request->range, entry->sector * SECTOR_BYTES,
                         request_changes(entry), &queue->overlap_waiter))
        return -EPROTO; /* none of ours starts two that overlap */
""", "")],
            [QUEUE, "bed recovery replay"]),
    Planted("no-fence",
            [("src/worker/vbd_store.c", "wanted->fence && !wanted->read_only\n", "wanted->fence && wanted->read_only\n")],
            ["bed recovery fence-uring", "bed recovery fence-aio", "bed recovery slow-storage-worker-aio"]),
    Planted("no-notification-afterwards",
            [("src/blkif/queue_recover.c", "    queue->must_notify = true;\n", "    queue->must_notify = false;\n")],
            [QUEUE]),
    Planted("a-worker-that-dies-unseen-ends-the-disk",
            [("src/broker/vbd_open.c", "    if (error == -ECONNRESET)\n        return;", "    if (error == -EXDEV)\n        return;")],
            ["bed recovery successors"]),
    Planted("online-0-is-not-told",
            [("src/broker/vbd_recover.c", "        (void)vbd_publish_state(vbd, XENBUS_CLOSING); /* nothing else tells the frontend */\n", "")],
            ["bed takeover offline-alone"]),
)
