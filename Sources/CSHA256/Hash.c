#include "csha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stddef.h>

typedef uint32_t words __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(32)));

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74,
    0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
    0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
    0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5,
    0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static const uint32_t beginning[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#define NAME(name) name##_avx2
#include "Blocks.inc"
#undef NAME
#pragma clang attribute pop

// Rotations and three-way logic in one instruction each, on as many vectors: twice as fast.
#pragma clang attribute push(__attribute__((target("avx2,avx512f,avx512vl,avx512bw"))), apply_to = function)
#define NAME(name) name##_avx512
#include "Blocks.inc"
#undef NAME
#pragma clang attribute pop

static int has_avx512(void) { return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"); }

int32_t csha256_is_fast(void) {
    unsigned a, b, c, d;
    // Bit 29: SHA instructions, with which one message alone is as fast as eight are here.
    int has_sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
    return __builtin_cpu_supports("avx2") && !has_sha;
}

// Where the hashing of a message is: in which part, and what of a block lies across two parts.
typedef struct {
    const csha256_message *message;
    int32_t part, slot;
    int64_t offset, total;
    uint8_t staged[128];
    int64_t filled;
    int is_closing;
} lane_state;

static void begin(lane_state *lane, const csha256_message *message, int32_t slot) {
    *lane = (lane_state){.message = message, .slot = slot};
}

// The next whole blocks of a lane: how many follow one another at *data; 0 when the message is over.
static int64_t ahead(lane_state *lane, const uint8_t **data) {
    const csha256_message *message = lane->message;
    for (;;) {
        if (lane->filled >= 64) {
            *data = lane->staged;
            return lane->filled / 64;
        }
        if (lane->part == message->count) break;
        const int64_t left = message->bytes[lane->part] - lane->offset;
        const uint8_t *here = (const uint8_t *)message->parts[lane->part] + lane->offset;
        if (lane->filled == 0 && left >= 64) {
            *data = here;
            return left / 64;
        }
        const int64_t taken = left < 64 - lane->filled ? left : 64 - lane->filled;
        __builtin_memcpy(lane->staged + lane->filled, here, (size_t)taken);
        lane->filled += taken;
        lane->total += taken;
        lane->offset += taken;
        if (lane->offset == message->bytes[lane->part]) {
            lane->part += 1;
            lane->offset = 0;
        }
    }
    if (lane->is_closing) return 0;
    // What every message ends with: one bit, zeros, and its length in bits.
    lane->is_closing = 1;
    const int64_t size = lane->filled + 9 <= 64 ? 64 : 128, bits = 8 * lane->total;
    __builtin_memset(lane->staged + lane->filled, 0, (size_t)(size - lane->filled));
    lane->staged[lane->filled] = 0x80;
    for (int i = 0; i < 8; i++) lane->staged[size - 1 - i] = (uint8_t)(bits >> (8 * i));
    lane->filled = size;
    *data = lane->staged;
    return size / 64;
}

static void advance(lane_state *lane, int64_t blocks) {
    if (lane->filled > 0) {
        // Staged blocks go together: nothing is behind them but, at the end, one more.
        lane->filled -= 64 * blocks;
        __builtin_memmove(lane->staged, lane->staged + 64 * blocks, (size_t)lane->filled);
        return;
    }
    lane->offset += 64 * blocks;
    lane->total += 64 * blocks;
    if (lane->offset == lane->message->bytes[lane->part]) {
        lane->part += 1;
        lane->offset = 0;
    }
}

static void finish(const words *state, int lane, uint8_t *digest) {
    for (int word = 0; word < 8; word++) {
        const uint32_t value = state[word][lane];
        for (int i = 0; i < 4; i++) digest[4 * word + i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

__attribute__((target("avx2"))) void csha256_hash(const csha256_message *messages, int32_t count, uint8_t *digests) {
    void (*const blocks)(words *, const uint8_t *const *, int64_t) = has_avx512() ? blocks_avx512 : blocks_avx2;
    lane_state lanes[CSHA256_LANES];
    words state[8];
    int32_t next = 0, active = 0;
    for (int lane = 0; lane < CSHA256_LANES; lane++) lanes[lane].message = 0;
    for (;;) {
        const uint8_t *data[CSHA256_LANES];
        int64_t shortest = INT64_MAX;
        const uint8_t *any = 0;
        for (int lane = 0; lane < CSHA256_LANES; lane++) {
            data[lane] = 0;
            for (;;) {
                if (!lanes[lane].message) {
                    if (next == count) break;
                    begin(&lanes[lane], &messages[next], next);
                    for (int word = 0; word < 8; word++) state[word][lane] = beginning[word];
                    next += 1;
                    active += 1;
                }
                const int64_t there = ahead(&lanes[lane], &data[lane]);
                if (there > 0) {
                    if (there < shortest) shortest = there;
                    any = data[lane];
                    break;
                }
                finish(state, lane, digests + 32 * (int64_t)lanes[lane].slot);
                lanes[lane].message = 0;
                active -= 1;
            }
        }
        if (active == 0) return;
        // Lanes without a message go over another's.
        for (int lane = 0; lane < CSHA256_LANES; lane++) if (!lanes[lane].message) data[lane] = any;
        blocks(state, data, shortest);
        for (int lane = 0; lane < CSHA256_LANES; lane++) if (lanes[lane].message) advance(&lanes[lane], shortest);
    }
}

#else

int32_t csha256_is_fast(void) { return 0; }
void csha256_hash(const csha256_message *messages, int32_t count, uint8_t *digests) {
    (void)messages;
    (void)count;
    (void)digests;
    __builtin_trap();
}

#endif
