/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams of random requests: see streams.h. */
#include "streams.h"

#include <string.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

uint64_t stream_random(struct stream *stream, uint64_t below)
{
    stream->random ^= stream->random << 13;
    stream->random ^= stream->random >> 7;
    stream->random ^= stream->random << 17;
    return (stream->random >> 8) % below;
}

bool stream_chance(struct stream *stream, unsigned in)
{
    return stream_random(stream, in) == 0;
}

static struct stream_request *unused(struct stream *stream, unsigned queue, unsigned *index)
{
    for (*index = 0; *index < STREAM_REQUESTS; (*index)++)
        if (!stream->request[queue][*index].busy)
            return &stream->request[queue][*index];
    return NULL;
}

void stream_release(struct stream *stream, struct stream_request *request)
{
    for (unsigned i = 0; i < request->pages; i++) {
        fake_gnttab.read_only[request->page[i]] = false;
        stream->free_page[stream->free_pages++] = (uint16_t)request->page[i];
    }
    request->busy = false;
    stream->busy--;
}

static uint32_t take_page(struct stream *stream, struct stream_request *request)
{
    /* Any of them, so that neighbours are rare; where they stay mapped, as frontends do, those that
     * were used last. */
    const unsigned often = 300, count = stream->free_pages;
    const uint64_t which = stream->rig->options.persistent && count > often
                               ? count - 1 - stream_random(stream, often)
                               : stream_random(stream, count);
    const uint16_t page = stream->free_page[which];

    stream->free_page[which] = stream->free_page[--stream->free_pages];
    memset(fake_gnttab.pages[page], STREAM_POISON, GNTTAB_PAGE_SIZE);
    request->page[request->pages++] = page;
    return page;
}

static uint32_t units(const struct stream *stream)
{
    return stream->rig->store.base.caps.sector_size / 512;
}

/* Each with a page of its own and random sectors of it, mostly all. */
static void choose_segments(struct stream *stream, struct stream_request *request, unsigned count)
{
    request->segments = count;
    for (unsigned i = 0; i < count; i++) {
        const unsigned steps = 8 / units(stream);
        unsigned first = 0, last = steps - 1;

        if (stream_chance(stream, 3)) {
            first = (unsigned)stream_random(stream, steps);
            last = first + (unsigned)stream_random(stream, steps - first);
        }
        request->segment[i] = (struct slab_segment){
            .gref = take_page(stream, request),
            .first_sector = (uint8_t)(first * units(stream)),
            .last_sector = (uint8_t)((last + 1) * units(stream) - 1),
            .pad = 0x5a5a,
        };
        request->sectors += (last - first + 1) * units(stream);
    }
}

/* A place for its sectors in the queue's part of the disk: queues don't write over each other. */
static void choose_place(struct stream *stream, struct stream_request *request)
{
    const uint64_t part = MODEL_SECTORS / stream->queues;
    /* Close together, or requests would hardly ever meet. */
    const uint64_t used = stream_chance(stream, 4) ? part : part / 8 + request->sectors;
    const uint64_t room = (used < part ? used : part) - request->sectors;

    request->sector =
        part * request->queue + stream_random(stream, room / units(stream) + 1) * units(stream);
    /* Often a neighbour of the one before, as from guests that read or write on and on. */
    if (stream->last[request->queue].operation == request->operation &&
        stream->last[request->queue].end + request->sectors <= part * (request->queue + 1U) &&
        stream_chance(stream, 2))
        request->sector = stream->last[request->queue].end;
}

static bool has_data_in(const struct stream_request *request)
{
    return request->operation != BLKIF_OP_READ;
}

/*
 * Ways to make one thing wrong about a request with data; `segment` is any of its. Each returns
 * whether it could.
 */
typedef bool spoil_fn(struct stream *stream, struct stream_request *request,
                      struct slab_segment *segment);

static bool end_before_it_begins(struct stream *stream, struct stream_request *request,
                                 struct slab_segment *segment)
{
    (void)request;
    segment->first_sector = (uint8_t)(1 + stream_random(stream, 255));
    segment->last_sector = (uint8_t)stream_random(stream, segment->first_sector);
    return true;
}

static bool end_beyond_the_page(struct stream *stream, struct stream_request *request,
                                struct slab_segment *segment)
{
    (void)request;
    segment->last_sector = (uint8_t)(8 + stream_random(stream, 248));
    return true;
}

static bool end_within_a_sector(struct stream *stream, struct stream_request *request,
                                struct slab_segment *segment)
{
    (void)request;
    segment->last_sector--;
    return units(stream) > 1;
}

static bool begin_within_a_sector(struct stream *stream, struct stream_request *request,
                                  struct slab_segment *segment)
{
    (void)segment;
    request->sector++;
    return units(stream) > 1;
}

static bool leave_the_disk(struct stream *stream, struct stream_request *request,
                           struct slab_segment *segment)
{
    const uint64_t far = stream_random(stream, UINT64_MAX) | UINT64_C(1) << 50;

    (void)segment;
    request->sector = stream_chance(stream, 2) ? MODEL_SECTORS - request->sectors + units(stream)
                                               : far & ~(uint64_t)7;
    return true;
}

static bool do_not_grant(struct stream *stream, struct stream_request *request,
                         struct slab_segment *segment)
{
    (void)request;
    segment->gref = FAKE_PAGES + (uint32_t)stream_random(stream, 1U << 20);
    return true;
}

static bool grant_to_be_read_only(struct stream *stream, struct stream_request *request,
                                  struct slab_segment *segment)
{
    /* A grant that stays mapped stays as it is. */
    if (stream->rig->options.persistent || request->operation != BLKIF_OP_READ)
        return false;
    fake_gnttab.read_only[segment->gref] = true;
    return true;
}

static bool do_not_grant_the_list(struct stream *stream, struct stream_request *request,
                                  struct slab_segment *segment)
{
    (void)segment;
    if (!request->list_page)
        return false;
    request->list_page = FAKE_PAGES + (uint32_t)stream_random(stream, 1U << 20);
    return true;
}

static spoil_fn *const spoilers[] = {
    end_before_it_begins, end_beyond_the_page, end_within_a_sector,   begin_within_a_sector,
    leave_the_disk,       do_not_grant,        grant_to_be_read_only, do_not_grant_the_list,
};

static bool spoil(struct stream *stream, struct stream_request *request)
{
    spoil_fn *const way = spoilers[stream_random(stream, sizeof(spoilers) / sizeof(spoilers[0]))];

    request->status = BLKIF_RSP_ERROR;
    return way(stream, request, &request->segment[stream_random(stream, request->segments)]);
}

/* What a right request brings along or expects. */
static void prepare_data(struct stream *stream, struct stream_request *request)
{
    uint64_t sector = request->sector;

    request->issued_at = ++stream->model.now;
    if (has_data_in(request))
        request->change = model_begin(&stream->model, request->sector, request->sectors, false);
    else
        memcpy(request->before, stream->model.stamps + request->sector,
               request->sectors * sizeof(request->before[0]));
    for (unsigned i = 0; has_data_in(request) && i < request->segments; i++)
        for (unsigned at = request->segment[i].first_sector; at <= request->segment[i].last_sector;
             at++)
            model_fill(fake_gnttab.pages[request->segment[i].gref] + (size_t)at * 512,
                       request->change, sector++);
}

/* A request with data, whose segments are there, into the ring. */
static void put_transfer(struct stream *stream, const struct stream_request *request,
                         unsigned claimed)
{
    struct front *front = &stream->rig->front[request->queue];

    if (request->list_page)
        front_put_indirect(front, &(struct rig_indirect){
                                      .operation = request->operation,
                                      .segments = (uint16_t)claimed,
                                      .id = request->id,
                                      .sector = request->sector,
                                      .page = request->list_page,
                                      .list = request->segment,
                                  });
    else
        front_put(front, &(struct rig_request){
                             .operation = request->operation,
                             .segments = (uint8_t)claimed,
                             .id = request->id,
                             .sector = request->sector,
                             .list = request->segment,
                         });
}

static unsigned slots_for(const struct front *front, unsigned segments)
{
    return front->multi_block && segments > 11 ? 1 + (segments + 2) / 14 : 1;
}

static unsigned room_in(const struct front *front)
{
    return front->count - (front->req_prod - front->rsp_cons);
}

static unsigned direct_limit(const struct stream *stream)
{
    const struct rig_options *options = &stream->rig->options;
    const unsigned most = options->max_segments ? options->max_segments : 11;

    return options->abi == BLKIF_ABI_X86_32 && most > 24 ? 24 : most;
}

static unsigned choose_count(struct stream *stream, unsigned most)
{
    if (stream_chance(stream, 2) && most > 8)
        most = 8;
    return 1 + (unsigned)stream_random(stream, most);
}

/* None, or more than was settled on. */
static bool put_wrong_count(struct stream *stream, struct stream_request *request)
{
    const struct front *front = &stream->rig->front[request->queue];
    const unsigned most = direct_limit(stream);
    const unsigned count =
        stream_chance(stream, 4) ? 0 : most + 1 + (unsigned)stream_random(stream, 256 - most);

    if (count > 255 || slots_for(front, count) > room_in(front))
        return false;
    memset(request->segment, 0, sizeof(request->segment));
    request->status = BLKIF_RSP_ERROR;
    put_transfer(stream, request, count);
    return true;
}

static bool put_data(struct stream *stream, struct stream_request *request, bool indirect)
{
    const struct front *front = &stream->rig->front[request->queue];
    const struct rig_options *options = &stream->rig->options;
    unsigned count =
        choose_count(stream, indirect ? options->max_indirect_segments : direct_limit(stream));

    if (request->operation == BLKIF_OP_FLUSH_DISKCACHE && count > 11)
        count = 11;
    if (count >= stream->free_pages || (!indirect && slots_for(front, count) > room_in(front)))
        return false;
    choose_segments(stream, request, count);
    if (indirect)
        request->list_page = take_page(stream, request);
    choose_place(stream, request);
    stream->last[request->queue].operation = request->operation;
    stream->last[request->queue].end = request->sector + request->sectors;
    if (stream_chance(stream, 8) && !spoil(stream, request))
        return false;
    if (options->read_only && has_data_in(request))
        request->status = BLKIF_RSP_ERROR;
    if (request->status == BLKIF_RSP_OKAY)
        prepare_data(stream, request);
    put_transfer(stream, request, count);
    return true;
}

static bool put_discard(struct stream *stream, struct stream_request *request)
{
    const struct rig_options *options = &stream->rig->options;
    const uint8_t flags = (uint8_t)stream_random(stream, 256);
    const bool secure = options->discard_secure && (flags & BLKIF_DISCARD_SECURE);

    request->sectors = stream_random(stream, MODEL_SECTORS / stream->queues / 8) / 8 * 8;
    choose_place(stream, request);
    if (stream_chance(stream, 4) && request->sectors > 8) { /* of any alignment */
        request->sector += 3;
        request->sectors -= 4;
    }
    if (!options->discard)
        request->status = BLKIF_RSP_EOPNOTSUPP;
    else if (options->read_only || (secure && (request->sector | request->sectors) % units(stream)))
        request->status = BLKIF_RSP_ERROR;
    else if (stream_chance(stream, 8)) {
        request->status = BLKIF_RSP_ERROR;
        request->sector = MODEL_SECTORS - request->sectors + 1 + stream_random(stream, 1U << 30);
    } else {
        request->issued_at = ++stream->model.now;
        request->change = model_begin(&stream->model, request->sector, request->sectors, true);
    }
    front_put(&stream->rig->front[request->queue], &(struct rig_request){
                                                       .operation = BLKIF_OP_DISCARD,
                                                       .segments = flags,
                                                       .id = request->id,
                                                       .sector = request->sector,
                                                       .discard_sectors = request->sectors,
                                                   });
    return true;
}

/* A flush or barrier without data, or a wrong operation. */
static bool put_bare(struct stream *stream, struct stream_request *request)
{
    uint8_t byte_1 = 0;

    if (request->operation == BLKIF_OP_FLUSH_DISKCACHE && stream_chance(stream, 2))
        byte_1 = (uint8_t)(12 + stream_random(stream, 244));
    if (request->operation == BLKIF_OP_WRITE_BARRIER && stream->rig->options.read_only)
        request->status = BLKIF_RSP_ERROR;
    if (request->operation > BLKIF_OP_INDIRECT || request->operation == BLKIF_OP_RESERVED_1) {
        request->status = BLKIF_RSP_EOPNOTSUPP;
        byte_1 = (uint8_t)stream_random(stream, 256);
    }
    memset(request->segment, 0x33, sizeof(request->segment));
    front_put(&stream->rig->front[request->queue],
              &(struct rig_request){.operation = request->operation,
                                    .segments = byte_1,
                                    .id = request->id,
                                    .sector = stream_random(stream, UINT64_MAX),
                                    .list = request->segment});
    return true;
}

/* An indirect request that is none. */
static bool put_bad_indirect(struct stream *stream, struct stream_request *request)
{
    const unsigned most = stream->rig->options.max_indirect_segments;
    uint16_t count = (uint16_t)(most + 1 + stream_random(stream, 60000));

    request->operation = (uint8_t)stream_random(stream, 2);
    if (stream_chance(stream, 2)) { /* a good count of something that can't be inside */
        request->operation = (uint8_t)(2 + stream_random(stream, 254));
        count = 1;
    } else if (stream_chance(stream, 3)) {
        count = 0;
    }
    request->status = most ? BLKIF_RSP_ERROR : BLKIF_RSP_EOPNOTSUPP;
    front_put_indirect(&stream->rig->front[request->queue],
                       &(struct rig_indirect){.operation = request->operation,
                                              .segments = count,
                                              .id = request->id,
                                              .page = FAKE_PAGES});
    return true;
}

static bool put_any(struct stream *stream, struct stream_request *request)
{
    const uint64_t kind = stream_random(stream, 100);
    const bool indirect = stream->rig->options.max_indirect_segments && stream_chance(stream, 2);

    if (kind < 80) {
        request->operation = kind < 40 ? BLKIF_OP_READ : BLKIF_OP_WRITE;
        if (stream_chance(stream, 2) && stream->last[request->queue].operation <= BLKIF_OP_WRITE)
            request->operation = stream->last[request->queue].operation;
        return stream_chance(stream, 30) ? put_wrong_count(stream, request)
                                         : put_data(stream, request, indirect);
    }
    if (kind < 86) {
        request->operation = kind < 83 ? BLKIF_OP_WRITE_BARRIER : BLKIF_OP_FLUSH_DISKCACHE;
        return stream_chance(stream, 2) ? put_data(stream, request, false)
                                        : put_bare(stream, request);
    }
    if (kind < 94) {
        request->operation = BLKIF_OP_DISCARD;
        return put_discard(stream, request);
    }
    if (kind < 97)
        return put_bad_indirect(stream, request);
    request->operation = stream_chance(stream, 3) ? (uint8_t)BLKIF_OP_RESERVED_1
                                                  : (uint8_t)(7 + stream_random(stream, 249));
    return put_bare(stream, request);
}

bool stream_put(struct stream *stream, unsigned queue)
{
    struct front *front = &stream->rig->front[queue];
    unsigned index;
    struct stream_request *request = unused(stream, queue, &index);

    if (!request || room_in(front) == 0)
        return false;
    request->busy = true;
    stream->busy++;
    request->queue = (uint8_t)queue;
    request->status = BLKIF_RSP_OKAY;
    request->scribbled = false;
    request->id = stream_random(stream, UINT64_MAX) * FRONT_IDS + index;
    request->sector = request->sectors = request->change = request->issued_at = 0;
    request->segments = request->pages = 0;
    request->list_page = 0;
    if (!put_any(stream, request)) {
        stream_release(stream, request);
        return false;
    }
    request->last_slot = front->req_prod - 1;
    stream->issued++;
    return true;
}
