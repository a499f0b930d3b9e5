// SHA-256 (FIPS 180-4) of several messages at once, for processors that have wide vectors and no SHA instructions: there one message alone leaves most of
// the vector units idle, since every block waits for the one before.
#ifndef CSHA256_H
#define CSHA256_H

#include <stdint.h>

#define CSHA256_LANES 8

// A message: parts that follow one another.
typedef struct {
    const void *_Nonnull const *_Nonnull parts;
    const int64_t *_Nonnull bytes;
    int32_t count;
} csha256_message;

// Whether `csha256_hash` gains anything on this processor; it must not be called where it does not.
int32_t csha256_is_fast(void);

// Hashes messages, CSHA256_LANES at a time; 32 bytes each are written to `digests`.
void csha256_hash(const csha256_message *_Nonnull messages, int32_t count, uint8_t *_Nonnull digests);

#endif
